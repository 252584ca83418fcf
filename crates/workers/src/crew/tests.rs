use std::sync::atomic::AtomicUsize;

use super::*;
use crate::request::Answer;
use crate::request::tests::{run, runs, texts};

/// Returns, for each text, its first token; waits for as many milliseconds as token 9 says. Token 13 is an error, token 14 a panic.
#[derive(Default)]
pub struct Echo {
    pub runs: Arc<Mutex<Vec<usize>>>,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl End for Flag {
    fn end(&self) {
        self.0.store(true, SeqCst);
    }
}

impl Lane for Echo {
    fn run(&mut self, inputs: Inputs, _: &[&str], _: RunMemory, running: &dyn Fn(Arc<dyn End>)) -> Result<Vec<Tensor>> {
        let flag = Arc::new(Flag::default());
        running(flag.clone());
        let failed = |reason: &str| Err(onnx_error(reason));
        let Some((_, Tensor::I64(ids))) = inputs.into_iter().next() else { return failed("no ids") };
        locked(&self.runs).push(ids.shape()[0]);
        if ids.iter().any(|&id| id == 13) {
            return failed("an unlucky number");
        }
        assert!(ids.iter().all(|&id| id != 14), "a panic");
        while ids.iter().any(|&id| id == 9) {
            if flag.0.load(SeqCst) {
                return failed("ended");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let first = ids.outer_iter().map(|row| row[[0]] as f32).collect::<Vec<_>>();
        Ok(vec![Array2::from_shape_vec((first.len(), 1), first).unwrap().into()])
    }
}

fn onnx_error(reason: &str) -> runtime::error::Error {
    runtime::error::Error::ModelRun { model: String::new(), reason: reason.into() }
}

fn ticket(slot: usize) -> Ticket {
    Ticket { slot, number: 5 }
}

fn of(graph: &Path, tokens: &[u32]) -> Request {
    Request { graph: graph.to_owned(), work: texts(&[tokens]), threads: 1 }
}

/// Runs `body` with a crew of one lane, a file that stands for a graph, and the sizes of the runs.
fn with_echo(body: impl FnOnce(&Crew, &Path, &Mutex<Vec<usize>>, &dyn Fn(usize) -> Vec<Outcome>) -> Result<()>) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("pg_reco-crew-{}-{}", std::process::id(), NUMBER.fetch_add(1, SeqCst));
    let graph = std::env::temp_dir().join(name);
    std::fs::write(&graph, "").unwrap();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let open = |path: &Path, _: Width| match path.exists() {
        true => Ok(Opened { lane: Box::new(Echo { runs: sizes.clone() }), bytes: 7 }),
        false => Err(Failure::Gone),
    };
    with_crew(Capacity::of_processors(1), &open, &|| (), &|_| (), |crew| {
        let wait_for = |count: usize| {
            let mut outcomes = Vec::new();
            while outcomes.len() < count {
                outcomes.extend(crew.finished());
                std::thread::sleep(Duration::from_millis(1));
            }
            outcomes
        };
        body(crew, &graph, &sizes, &wait_for)
    })
    .unwrap();
    std::fs::remove_file(&graph).unwrap();
}

#[test]
fn an_error_of_one_in_a_batch_reaches_it_alone() {
    with_echo(|crew, graph, sizes, wait_for| {
        // It holds the lane until all others wait.
        crew.submit(ticket(0), of(graph, &[9, 1]));
        while locked(sizes).is_empty() {
            std::thread::yield_now();
        }
        for (slot, token) in [(1, 21), (2, 13), (3, 23)] {
            crew.submit(ticket(slot), of(graph, &[token, 1]));
        }
        crew.withdraw(ticket(0));
        let mut outcomes = wait_for(3);
        outcomes.sort_by_key(|(ticket, _)| ticket.slot);
        for ((_, outcome), expected) in outcomes.iter().zip([Some(21.0), None, Some(23.0)]) {
            match (outcome, expected) {
                (Ok(Answer::Vectors(vectors)), Some(value)) => assert_eq!(vectors.values[[0, 0]], value),
                (Err(Failure::Run(reason)), None) => assert!(reason.contains("unlucky")),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(*locked(sizes), [1, 3, 1, 1, 1]);
        assert_eq!(crew.load(), (0, 0));
        Ok(())
    });
}

#[test]
fn a_panic_is_its_requests_error_and_the_lane_goes_on() {
    with_echo(|crew, graph, _, wait_for| {
        crew.submit(ticket(0), of(graph, &[14]));
        assert!(matches!(wait_for(1).as_slice(), [(_, Err(Failure::Internal(reason)))] if reason.contains("a panic")));
        crew.submit(ticket(0), of(graph, &[3]));
        assert!(matches!(wait_for(1).as_slice(), [(_, Ok(_))]));
        Ok(())
    });
}

#[test]
fn graphs_are_loaded_once_and_a_missing_one_is_told() {
    with_echo(|crew, graph, _, wait_for| {
        let open = |path: &Path| Request { graph: path.to_owned(), work: Work::Open, threads: 1 };
        crew.submit(ticket(0), open(Path::new("/none")));
        assert_eq!(wait_for(1), [(ticket(0), Err(Failure::Gone))]);
        for _ in 0..2 {
            crew.submit(ticket(0), open(graph));
            assert_eq!(wait_for(1), [(ticket(0), Ok(Answer::Opened(7)))]);
        }
        assert_eq!(crew.loaded(), (1, 7));
        Ok(())
    });
}

#[test]
fn runs_of_a_request_come_back_in_their_order() {
    with_echo(|crew, graph, _, wait_for| {
        let ids = |id: i64| vec![("ids".to_owned(), ndarray::array![[id]].into())];
        let work = runs((20..30).map(ids).collect());
        crew.submit(ticket(0), Request { graph: graph.to_owned(), work, threads: 4 });
        let outcomes = wait_for(1);
        let [(_, Ok(Answer::Runs(found)))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        let values: Vec<Tensor> = found.iter().map(|(outputs, _)| outputs[0].clone()).collect();
        let expected: Vec<Tensor> = (20..30).map(|id| ndarray::array![[id as f32]].into()).collect();
        assert_eq!(values, expected);
        crew.submit(ticket(1), Request { graph: graph.to_owned(), work: runs(vec![run(&[1.0])]), threads: 1 });
        assert!(matches!(wait_for(1).as_slice(), [(_, Err(Failure::Run(_)))]));
        Ok(())
    });
}

#[test]
fn a_crew_that_stops_ends_what_runs() {
    let began = Instant::now();
    with_echo(|crew, graph, sizes, _| {
        crew.submit(ticket(0), of(graph, &[9]));
        while locked(sizes).is_empty() {
            std::thread::yield_now();
        }
        Ok(())
    });
    assert!(began.elapsed() < Duration::from_secs(10));
}
