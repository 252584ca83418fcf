//! What is found by clusters against what a scan of all rows finds.

use std::cell::Cell;
use std::collections::HashSet;

use super::*;
use crate::listed::ItemSet;
use runtime::draw::{below, normal};
use runtime::progress::Unwatched;

const EVERYTHING: Listed = Listed { excluded: &[], allowed: None };

/// A mixture of gaussians about as many topics, rows of length one.
fn mixture(seed: u64, rows: usize, d: usize, topics: usize) -> Array2<f32> {
    let mut made = Array2::from_shape_fn((rows, d), |(row, j)| {
        let topic = below(seed, row as u64, topics);
        normal(1, (topic * d + j) as u64) + 0.4 * normal(seed ^ 2, (row * d + j) as u64)
    });
    kernels::matrix::rows_mut(made.view_mut()).for_each(kernels::statistics::normalize);
    made
}

/// The data file, with clusters from 1,000 rows on.
fn written(vectors: &Array2<f32>, threads: usize) -> Vec<u8> {
    let mut data = DataWriter::default();
    Neighbours::write_from(1000, &mut data, "v", vectors.clone(), 7, threads, &Unwatched).unwrap();
    data.finish().unwrap()
}

fn opened(file: Vec<u8>, rows: usize, d: usize) -> Result<Neighbours> {
    let data = file.into();
    Neighbours::open(&Files::open("m", Default::default(), &data)?, "v", rows, d)
}

fn neighbours(vectors: &Array2<f32>) -> Neighbours {
    opened(written(vectors, 2), vectors.nrows(), vectors.ncols()).unwrap()
}

fn bits(list: &[(f32, u32)]) -> Vec<(u32, u32)> {
    list.iter().map(|&(score, row)| (score.to_bits(), row)).collect()
}

/// The exact list, after a look at whether both searches give it.
fn checked(found: &Neighbours, vectors: &Array2<f32>, unit: &[f32], k: usize, listed: &Listed) -> Vec<(f32, u32)> {
    let expected = best_items(vectors.view(), unit, k, listed, &Unwatched).unwrap();
    let exact = found.exact(unit, k, listed, &Unwatched).unwrap();
    let near = found.near(unit, k, found.clusters(), listed, &Unwatched).unwrap();
    assert_eq!(bits(&exact), bits(&expected));
    assert_eq!(bits(&near), bits(&expected));
    expected
}

#[test]
fn all_probes_find_what_the_exact_search_finds_which_is_what_a_scan_finds() {
    for (rows, d) in [(1000, 3), (3000, 24), (5000, 17)] {
        let vectors = mixture(1, rows, d, 40);
        let found = neighbours(&vectors);
        assert!(found.clusters() > 20);
        let odd: Vec<u32> = (0..rows as u32).filter(|row| row % 2 == 1).collect();
        let mut third = ItemSet::new(rows);
        (0..rows as u32).step_by(3).for_each(|row| third.insert(row));
        let queries = mixture(2, 4, d, 40);
        for query in queries.rows().into_iter().chain([vectors.row(0), vectors.row(rows - 1)]) {
            let query = query.to_slice().unwrap();
            for k in [0, 1, 10, 70, rows + 5] {
                for listed in [
                    EVERYTHING,
                    Listed { excluded: &odd, ..EVERYTHING },
                    Listed { allowed: Some(&third), ..EVERYTHING },
                    Listed { excluded: &odd, allowed: Some(&third) },
                ] {
                    checked(&found, &vectors, query, k, &listed);
                }
            }
        }
        checked(&found, &vectors, &vec![0.0; d], 10, &EVERYTHING);
        assert_eq!(found.row(7).unwrap(), vectors.row(7).to_slice().unwrap());
        assert!(found.row(rows as u32).is_err());
    }
}

#[test]
fn few_probes_find_nearly_all_of_the_nearest_and_no_wrong_score() {
    let (vectors, queries) = (mixture(1, 6000, 32, 100), mixture(2, 50, 32, 100));
    let found = neighbours(&vectors);
    let recall = |probes: usize| {
        let mut hits = 0;
        for query in queries.rows() {
            let query = query.to_slice().unwrap();
            let exact: HashSet<_> =
                bits(&found.exact(query, 10, &EVERYTHING, &Unwatched).unwrap()).into_iter().collect();
            let near = bits(&found.near(query, 10, probes, &EVERYTHING, &Unwatched).unwrap());
            hits += near.iter().filter(|pair| exact.contains(pair)).count();
            assert!(
                near.len() == 10 && near.is_sorted_by(|a, b| (f32::from_bits(a.0), b.1) > (f32::from_bits(b.0), a.1))
            );
        }
        hits as f64 / 500.0
    };
    let (one, twelve) = (recall(1), recall(12));
    assert!(12 < found.clusters() / 10 && twelve > 0.95 && one < twelve, "{one} {twelve}");
}

#[test]
fn as_many_rows_are_found_as_a_filter_leaves() {
    let (rows, d) = (30_000, 8);
    let vectors = mixture(1, rows, d, 60);
    let found = neighbours(&vectors);
    let query = mixture(2, 1, d, 60);
    let query = query.row(0).to_slice().unwrap().to_vec();
    // The rows that are farthest from the query are in the last clusters to be read.
    let ranked = best_items(vectors.view(), &query, rows, &EVERYTHING, &Unwatched).unwrap();
    for left in [0, 3, 150, 2500] {
        let mut allowed = ItemSet::new(rows);
        ranked[rows - left..].iter().for_each(|&(_, row)| allowed.insert(row));
        let listed = Listed { allowed: Some(&allowed), ..EVERYTHING };
        for (k, probes) in [(10, 1), (10, 20), (200, 1), (3000, 1), (rows, 0)] {
            let near = found.near(&query, k, probes, &listed, &Unwatched).unwrap();
            assert_eq!(near.len(), k.min(left), "{left} {k} {probes}");
            assert!(near.iter().all(|&(_, row)| allowed.contains(row)));
        }
        checked(&found, &vectors, &query, 10, &listed);
    }
    let mut excluded: Vec<u32> = ranked[..rows - 20].iter().map(|&(_, row)| row).collect();
    excluded.sort_unstable();
    let near = found.near(&query, 15, 2, &Listed { excluded: &excluded, ..EVERYTHING }, &Unwatched).unwrap();
    assert_eq!(near.len(), 15);
    assert_eq!(found.near(&query, 900, 1, &EVERYTHING, &Unwatched).unwrap().len(), 900);
}

#[test]
fn rows_of_zeros_are_found_after_all_that_point_towards_the_query() {
    let (rows, d) = (2000, 16);
    let mut vectors = mixture(1, rows, d, 20).mapv_into(f32::abs);
    (0..rows).step_by(10).for_each(|row| vectors.row_mut(row).fill(0.0));
    let found = neighbours(&vectors);
    let query = vectors.row(1).to_vec();
    let all = checked(&found, &vectors, &query, rows, &EVERYTHING);
    assert!(all[..1800].iter().all(|&(score, row)| score > 0.0 && row % 10 != 0));
    assert!(all[1800..].iter().zip((0..).step_by(10)).all(|(&found, row)| found == (0.0, row)));
    assert_eq!(bits(&found.near(&query, rows, 1, &EVERYTHING, &Unwatched).unwrap()), bits(&all));
    let mut zeros = ItemSet::new(rows);
    (0..rows as u32).step_by(10).for_each(|row| zeros.insert(row));
    let near = found.near(&query, 5, 3, &Listed { allowed: Some(&zeros), ..EVERYTHING }, &Unwatched).unwrap();
    assert_eq!(near, [(0.0, 0), (0.0, 10), (0.0, 20), (0.0, 30), (0.0, 40)]);

    let nothing = Array2::zeros((1500, d));
    let found = neighbours(&nothing);
    assert_eq!(found.clusters(), 0);
    assert_eq!(checked(&found, &nothing, &query, 2, &EVERYTHING), [(0.0, 0), (0.0, 1)]);
}

#[test]
fn equal_rows_come_in_their_order() {
    let (rows, d) = (4000, 12);
    let few = mixture(1, 7, d, 7);
    for distinct in [1, 7] {
        let vectors = Array2::from_shape_fn((rows, d), |(row, j)| few[[row % distinct, j]]);
        let found = neighbours(&vectors);
        assert!((1..=distinct).contains(&found.clusters()));
        let query = few.row(0).to_vec();
        let all = checked(&found, &vectors, &query, rows / distinct, &EVERYTHING);
        let near = found.near(&query, rows / distinct, 1, &EVERYTHING, &Unwatched).unwrap();
        assert_eq!(bits(&near), bits(&all));
        assert!(all.iter().zip((0..).step_by(distinct)).all(|(&(_, row), expected)| row == expected));
    }
}

#[test]
fn the_file_is_the_same_on_any_number_of_threads() {
    let vectors = mixture(1, 3000, 20, 30);
    let files = [1, 2, 5].map(|threads| written(&vectors, threads));
    assert!(files[0] == files[1] && files[1] == files[2]);
}

#[test]
fn few_rows_and_those_without_bounds_are_not_in_clusters() {
    let mut vectors = mixture(1, 999, 8, 10);
    let query = vectors.row(3).to_vec();
    let found = neighbours(&vectors);
    assert_eq!(found.clusters(), 0);
    checked(&found, &vectors, &query, 10, &EVERYTHING);
    assert_eq!(found.near(&query, 10, 1, &EVERYTHING, &Unwatched).unwrap().len(), 10);
    assert!(matches!(found.near(&query[1..], 10, 1, &EVERYTHING, &Unwatched), Err(Error::Dimensions { .. })));
    assert!(matches!(found.exact(&query[1..], 10, &EVERYTHING, &Unwatched), Err(Error::Dimensions { .. })));

    vectors = mixture(1, 1200, 8, 10);
    vectors[[5, 0]] = f32::NAN;
    let found = neighbours(&vectors);
    assert_eq!((found.clusters(), found.exact(&query, 2000, &EVERYTHING, &Unwatched).unwrap().len()), (0, 1199));
    let empty = Array2::zeros((0, 8));
    assert!(neighbours(&empty).exact(&query, 3, &EVERYTHING, &Unwatched).unwrap().is_empty());
}

/// Where a tensor of a data file lies.
fn tensor(file: &[u8], name: &str) -> Range<usize> {
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&file[8..end]).unwrap();
    let entry = header.split(&format!("\"{name}\":")).nth(1).unwrap();
    let offsets = entry.split("\"data_offsets\":[").nth(1).unwrap().split(']').next().unwrap();
    let (from, to) = offsets.split_once(',').unwrap();
    end + from.parse::<usize>().unwrap()..end + to.parse::<usize>().unwrap()
}

#[test]
fn damaged_files_are_refused() {
    let (rows, d) = (1500, 8);
    let file = written(&mixture(1, rows, d, 10), 2);
    let refused = |file: Vec<u8>, rows, d| match opened(file, rows, d) {
        Err(Error::DamagedModel { .. }) => {}
        other => panic!("{:?}", other.map(|found| found.clusters())),
    };
    assert!(opened(file.clone(), rows, d).is_ok());
    refused(file.clone(), rows + 1, d);
    refused(file.clone(), rows - 1, d);
    refused(file.clone(), rows, d + 1);
    // A number of a tensor, and what it is changed to.
    let clusters = tensor(&file, "v.clusters");
    let last = clusters.len() / 4 - 1;
    for (name, place, value) in [
        ("v.clusters", 0, 1),
        ("v.clusters", 3, 0),
        ("v.clusters", 3, u32::MAX),
        ("v.clusters", last, u32::MAX),
        ("v.clusters", last, 0),
        ("v.quantized.order", 0, rows as u32),
        ("v.quantized.order", 0, NOTHING),
        ("v.quantized.order", 1, NOTHING - 1),
    ] {
        let mut damaged = file.clone();
        let at = tensor(&file, name).start + 4 * place;
        damaged[at..at + 4].copy_from_slice(&value.to_le_bytes());
        refused(damaged, rows, d);
    }
    for name in ["v.quantized", "v.quantized.order", "v.quantized.scales", "v.centroids"] {
        let (old, new) = (format!("\"{name}\""), format!("\"{}_\"", &name[..name.len() - 1]));
        let at = file.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
        let mut damaged = file.clone();
        damaged[at..at + new.len()].copy_from_slice(new.as_bytes());
        refused(damaged, rows, d);
    }
    // What no look at shapes can find out gives another list at most.
    for (name, byte) in [("v.centroids", 0xff), ("v.quantized.scales", 0xff), ("v.quantized.norms", 0), ("v", 0xff)] {
        let mut damaged = file.clone();
        damaged[tensor(&file, name)].fill(byte);
        let found = opened(damaged, rows, d).unwrap();
        for probes in [1, found.clusters()] {
            assert!(found.near(&[0.5; 8], 5, probes, &EVERYTHING, &Unwatched).unwrap().len() <= 5);
        }
    }
}

/// Cancels at a look.
struct CancelAfter(Cell<usize>);
impl Progress for CancelAfter {
    fn check(&self) -> Result<()> {
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 { Err(Error::Canceled) } else { Ok(()) }
    }
}

#[test]
fn writing_and_searching_can_be_canceled() {
    let vectors = mixture(1, 2000, 16, 20);
    for looks in [1, 2, 3, 5, 9, 15, 20] {
        let mut data = DataWriter::default();
        let canceled = CancelAfter(Cell::new(looks));
        let result = Neighbours::write_from(1000, &mut data, "v", vectors.clone(), 7, 2, &canceled);
        assert!(matches!(result, Err(Error::Canceled)), "{looks}");
    }
    let found = neighbours(&vectors);
    let query = vectors.row(0).to_vec();
    for probes in [1, found.clusters()] {
        let result = found.near(&query, 10, probes, &EVERYTHING, &CancelAfter(Cell::new(1)));
        assert!(matches!(result, Err(Error::Canceled)));
    }
}

#[test]
fn the_work_is_told_up_to_its_end() {
    struct Heard(Cell<(usize, usize)>);
    impl Progress for Heard {
        fn check(&self) -> Result<()> {
            Ok(())
        }
        fn report(&self, phase: &str, done: usize, total: usize) {
            assert_eq!(phase, "vectors clustered");
            assert!(done >= self.0.get().0 && done <= total);
            self.0.set((done, total));
        }
    }
    let heard = Heard(Cell::new((0, 0)));
    let mut data = DataWriter::default();
    Neighbours::write_from(1000, &mut data, "v", mixture(1, 2000, 16, 20), 7, 2, &heard).unwrap();
    let (done, total) = heard.0.get();
    assert!(total > 0 && done == total);
}

#[test]
fn rows_are_spread_over_the_clusters() {
    let (rows, d) = (8000, 16);
    let vectors = mixture(1, rows, d, 30);
    let clustering = Clustering::of(vectors.view(), 3, 2, &Unwatched).unwrap().unwrap();
    let mut held: Vec<u32> = clustering.order.iter().copied().filter(|&row| row != NOTHING).collect();
    held.sort_unstable();
    assert!(held.into_iter().eq(0..rows as u32));
    let sizes = clustering.starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize * ROWS);
    assert!(sizes.clone().all(|size| size > 0) && sizes.max() < Some(rows / 20));
    assert_eq!(clustering.centroids.nrows() + 1, clustering.starts.len());
}
