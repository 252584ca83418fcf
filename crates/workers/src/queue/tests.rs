use super::*;
use crate::request::tests::{run, runs, text_graph, texts};

fn request(work: Work) -> Request {
    Request { graph: "/g".into(), work, threads: 8 }
}

fn of_length(length: usize) -> Work {
    texts(&[&vec![7; length]])
}

fn ticket(slot: usize) -> Ticket {
    Ticket { slot, number: 1 }
}

/// A queue with these requests, in this order, of slots 0 and on.
fn queue(lanes: usize, works: Vec<Work>) -> Queue {
    let mut queue = Queue::new(Capacity::of_processors(lanes));
    works.into_iter().enumerate().for_each(|(slot, work)| queue.push(ticket(slot), request(work), Instant::now()));
    queue
}

fn slots(batch: &Batch) -> Vec<usize> {
    let mut slots: Vec<usize> = batch.parts.iter().map(|part| part.ticket.slot).collect();
    slots.sort_unstable();
    slots
}

fn vectors(batch: &Batch) -> Vec<Ended> {
    let results = batch.parts.iter().map(|part| {
        let values = Array2::from_shape_fn((part.units.len(), 2), |(row, _)| (part.units.start + row) as f32);
        Ok((Results::Vectors(values), Duration::from_millis(1)))
    });
    results.collect()
}

fn take(queue: &mut Queue) -> Batch {
    queue.take(Instant::now()).expect("something waits")
}

#[test]
fn lanes_share_what_waits_and_each_gets_texts_of_one_length() {
    let lengths = [40, 60, 41, 61, 41, 62, 40, 60];
    let mut queue = queue(2, lengths.into_iter().map(of_length).collect());
    let first = take(&mut queue);
    assert_eq!(slots(&first), [0, 2, 4, 6], "the oldest and those nearest in length");
    let second = take(&mut queue);
    assert_eq!(slots(&second), [1, 3, 5, 7]);
    assert!(!first.wide && !second.wide && queue.take(Instant::now()).is_none());
    let results = vectors(&first);
    assert_eq!(queue.finish(first, results).len(), 4);
    assert_eq!((queue.len(), queue.waits.requests), (4, 8));
}

#[test]
fn a_device_takes_more_texts_at_a_time_than_a_processor() {
    let text = [7u32; 4];
    let many = || texts(&vec![&text[..]; 3000]);
    for (capacity, batch) in [(Capacity::of_processors(1), 32), (Capacity::of_device(), 1024)] {
        let mut queue = Queue::new(capacity);
        queue.push(ticket(0), request(many()), Instant::now());
        assert_eq!(take(&mut queue).parts[0].units, 0..batch);
    }
}

#[test]
fn one_that_finds_the_worker_idle_runs_on_all_processors_and_one_that_waited_does_not() {
    let mut queue = queue(2, vec![of_length(5)]);
    let first = take(&mut queue);
    assert!(first.wide);
    queue.push(ticket(1), request(of_length(5)), Instant::now());
    let results = vectors(&first);
    queue.finish(first, results);
    assert!(!take(&mut queue).wide);
}

#[test]
fn other_parties_models_and_batch_dependent_graphs_do_not_run_together() {
    let other = |change: &dyn Fn(&mut TextWork)| {
        let mut work = TextWork::new(text_graph(), 32, 1, &[&[1, 2]]).unwrap();
        change(&mut work);
        Work::Texts(Arc::new(work))
    };
    let mut queue =
        queue(1, vec![of_length(2), other(&|work| work.party = 2), other(&|work| work.graph.output = "other".into())]);
    let elsewhere = Request { graph: "/other".into(), ..request(of_length(2)) };
    queue.push(ticket(3), elsewhere, Instant::now());
    for slot in 0..4 {
        let batch = take(&mut queue);
        assert_eq!(slots(&batch), [slot]);
        let results = vectors(&batch);
        queue.finish(batch, results);
    }
    let dependent = || other(&|work| work.graph.depends_on_batch = true);
    (0..2).for_each(|slot| queue.push(ticket(slot), request(dependent()), Instant::now()));
    assert_eq!(slots(&take(&mut queue)), [0]);
}

#[test]
fn small_requests_do_not_wait_for_large_ones_and_large_ones_take_turns() {
    let tokens = vec![7u32; 100];
    let large = || texts(&vec![&tokens[..]; 100]);
    let mut queue = queue(1, vec![large(), large(), of_length(3)]);
    assert_eq!(slots(&take(&mut queue)), [2], "the small one first");
    let first = take(&mut queue);
    assert_eq!((slots(&first), first.parts[0].units.clone()), (vec![0], 0..32));
    assert!(queue.take(Instant::now()).is_none(), "as many large ones as lanes");
    let results = vectors(&first);
    assert!(queue.finish(first, results).is_empty());
    let mut order = Vec::new();
    let mut done = Vec::new();
    while let Some(batch) = queue.take(Instant::now()) {
        order.extend(slots(&batch));
        let results = vectors(&batch);
        done.extend(queue.finish(batch, results));
    }
    assert_eq!(order, [1, 0, 1, 0, 1, 0, 1]);
    for (_, outcome) in done {
        let Ok(Answer::Vectors(Vectors { values: found, .. })) = outcome else { panic!("vectors were expected") };
        assert!(found.column(0).iter().enumerate().all(|(row, &x)| x == row as f32), "each row in its place");
    }
}

#[test]
fn lanes_share_the_texts_of_one_caller_and_one_long_text_has_all_processors() {
    let tokens = [7u32; 20];
    let mut queue = queue(2, vec![texts(&vec![&tokens[..]; 30])]);
    let both = [take(&mut queue), take(&mut queue)];
    assert_eq!(
        both.each_ref().map(|batch| (batch.parts[0].units.clone(), batch.wide)),
        [(0..15, false), (15..30, false)]
    );
    for batch in both {
        let results = vectors(&batch);
        queue.finish(batch, results);
    }
    queue.push(ticket(1), request(of_length(2000)), Instant::now());
    assert!(take(&mut queue).wide);
}

#[test]
fn a_caller_gets_no_more_lanes_than_it_may_have() {
    let tokens = vec![7u32; 100];
    let mut queue = Queue::new(Capacity::of_processors(4));
    let large = Request { threads: 2, ..request(texts(&vec![&tokens[..]; 500])) };
    queue.push(ticket(0), large, Instant::now());
    let batches: Vec<Batch> = std::iter::from_fn(|| queue.take(Instant::now())).collect();
    assert_eq!(batches.len(), 2);
}

#[test]
fn a_failure_is_its_requests_own_and_what_comes_after_is_dropped() {
    let mut queue = queue(2, vec![runs(vec![run(&[1.0]), run(&[2.0]), run(&[3.0])]), of_length(4)]);
    let small = take(&mut queue);
    let (first, second) = (take(&mut queue), take(&mut queue));
    let failed = queue.finish(first, vec![Err(Failure::Run("bad".into()))]);
    assert_eq!(failed, [(ticket(0), Err(Failure::Run("bad".into())))]);
    let late = vec![Ok((Results::Runs(vec![vec![]]), Duration::ZERO))];
    assert!(queue.finish(second, late).is_empty() && queue.take(Instant::now()).is_none());
    let results = vectors(&small);
    assert!(matches!(queue.finish(small, results).as_slice(), [(_, Ok(Answer::Vectors(..)))]));
    assert!(queue.is_empty());
}

#[test]
fn who_withdraws_is_forgotten_and_a_batch_that_ran_for_it_alone_may_end() {
    let mut queue = queue(1, vec![of_length(4), of_length(4), of_length(400)]);
    let both = take(&mut queue);
    assert_eq!(slots(&both), [0, 1]);
    assert!(queue.withdraw(ticket(0)).is_empty(), "it runs for another as well");
    assert_eq!(queue.withdraw(ticket(1)), [both.id]);
    assert!(queue.withdraw(ticket(2)).is_empty() && queue.is_empty(), "it was waiting");
    let results = vectors(&both);
    assert!(queue.finish(both, results).is_empty());
}

#[test]
fn a_run_that_takes_long_makes_room_for_another_of_its_kind() {
    let large = || runs(vec![run(&[1.0; 9000])]);
    for (work, limit) in [(of_length(3), SLOW_SMALL), (large(), SLOW_LARGE)] {
        let start = Instant::now();
        let mut queue = queue(1, vec![work.clone(), work]);
        let slow = queue.take(start).unwrap();
        queue.push(ticket(2), request(Work::Open), start);
        let (first, second) = (slots(&slow), queue.take(start).map(|batch| slots(&batch)));
        assert!(first == [0, 1] || first == [0] && second == Some(vec![2]), "{first:?} {second:?}");
        assert!(queue.take(start).is_none() && !queue.demote_slow(start));
        assert!(queue.demote_slow(start + limit * 2));
        assert!(queue.take(start + limit * 2).is_some());
    }
}

#[test]
fn there_is_an_end_to_slow_runs() {
    let mut queue = queue(1, (0..MAX_SLOW + 9).map(|_| runs(vec![run(&[1.0])])).collect());
    let mut now = Instant::now();
    let mut taken = 0;
    while queue.take(now).is_some() {
        taken += 1;
        now += SLOW_SMALL * 2;
        queue.demote_slow(now);
    }
    assert_eq!(taken, MAX_SLOW + 1);
}
