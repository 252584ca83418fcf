//! What the copy finds is what the plain scan finds.

use ndarray::{Array2, aview2};

use super::*;
use crate::listed::{ItemSet, Listed};
use crate::scan::best_items;
use kernels::bytes::ByteLevel;
use runtime::draw::mix;
use runtime::progress::Unwatched;

/// About normally distributed numbers of standard deviation 1, from a fixed recipe.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let uniform = |x: u64| (mix(x) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let from = |i: usize| (0..12).map(|t| uniform(seed << 40 | (i as u64) << 4 | t)).sum();
    (0..n).map(from).collect()
}

fn matrix(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    memory::shaped(rows, columns, numbers(seed, rows * columns)).unwrap()
}

/// The lists by every kind of processor's instructions, and by the plain scan.
fn check(name: &str, factors: ArrayView2<f32>, users: &[&[f32]], k: usize, listed: &Listed) -> usize {
    let d = factors.ncols();
    let Some(copy) = Quantized::of(factors, 2, &Unwatched).unwrap() else { return 0 };
    let mut answered = 0;
    for level in ByteLevel::ALL.into_iter().filter(|level| level.is_here()) {
        let all = vec![*listed; users.len()];
        let together = copy.best_at(level, factors, users, &all, k, &Unwatched).unwrap();
        for (user, list) in users.iter().zip(together) {
            let alone = copy.best_at(level, factors, &[user], &[*listed], k, &Unwatched).unwrap().remove(0);
            let bits = |list: &[(f32, u32)]| list.iter().map(|&(s, i)| (s.to_bits(), i)).collect::<Vec<_>>();
            let expected = bits(&best_items(factors, user, k, listed, &Unwatched).unwrap());
            for found in [&list, &alone].into_iter().flatten() {
                assert_eq!(bits(found), expected, "{name}: {level:?} d {d} k {k}");
                answered += 1;
            }
        }
    }
    answered
}

const EVERYTHING: Listed = Listed { excluded: &[], allowed: None };

#[test]
fn lists_are_those_of_the_plain_scan_to_the_last_bit() {
    for d in [1, 3, 4, 8, 17, 50, 64, 129] {
        for items in [64, 65, 1000, 3001] {
            let normal = matrix(d as u64, items, d);
            let users = numbers(99, 9 * d);
            let users: Vec<&[f32]> = users.chunks(d).collect();
            let norms: Vec<f32> = (0..items).map(|i| 30.0 / (1.0 + (mix(i as u64) % 1000) as f32)).collect();
            let popular = Array2::from_shape_fn((items, d), |(i, j)| normal[[i, j]] * norms[i]);
            // One direction outweighs all others, as in factors whose first axis is popularity.
            let skew = |j: usize, v: f32| if j == 0 { 9.0 + v } else { v / 9.0 };
            let skewed = Array2::from_shape_fn((items, d), |(i, j)| skew(j, normal[[i, j]]));
            for (name, factors) in [("normal", normal), ("popular", popular), ("skewed", skewed)] {
                for k in [1, 10, 40] {
                    let answered = check(name, factors.view(), &users, k, &EVERYTHING);
                    assert!(
                        answered > 0 || items < 3000 || k > 10 || name == "skewed",
                        "{name}: d {d}, {items} items, k {k}"
                    );
                }
            }
        }
    }
}

#[test]
fn ties_zeros_and_extremes_are_those_of_the_plain_scan() {
    let (d, items) = (16, 2000);
    let normal = matrix(5, items, d);
    let of = |f: &dyn Fn(usize, f32) -> f32| Array2::from_shape_fn((items, d), |(i, j)| f(i, normal[[i, j]]));
    let cases: Vec<(&str, Array2<f32>)> = vec![
        ("all the same", Array2::from_elem((items, d), 0.25)),
        ("zeros", Array2::zeros((items, d))),
        ("whole numbers", of(&|_, v| v.round())),
        ("each twice", Array2::from_shape_fn((items, d), |(i, j)| normal[[i / 2, j]])),
        ("mostly zeros", of(&|item, v| if item % 7 == 0 { v } else { -0.0 })),
        ("all below zero", of(&|_, v| -v.abs())),
        ("huge", of(&|_, v| v * 1e30)),
        ("great", of(&|_, v| v * 1e13)),
        ("tiny", of(&|_, v| v * 1e-39)),
        ("of all lengths", of(&|item, v| v * 10f32.powi(item as i32 % 50 - 40))),
        ("nearly tied", of(&|item, v| 1.0 + f32::EPSILON * (item % 3) as f32 + v * 1e-9)),
    ];
    let directions = [numbers(1, d), vec![1.0; d], vec![-1.0; d], vec![0.0; d], numbers(2, d)];
    let lengths = [1.0, 1e-42, 1e-20, 1e-12, 1e12, 1e30, f32::INFINITY];
    let users: Vec<Vec<f32>> = directions
        .iter()
        .flat_map(|user| lengths.map(|l| user.iter().map(|v| if *v == 0.0 { 0.0 } else { v * l }).collect()))
        .collect();
    let users: Vec<&[f32]> = users.iter().map(Vec::as_slice).collect();
    for (name, factors) in &cases {
        for k in [1, 10, 50] {
            check(name, factors.view(), &users, k, &EVERYTHING);
        }
    }
    assert!(Quantized::of(aview2(&[[f32::NAN; 4]; 16]), 1, &Unwatched).unwrap().is_none());
}

#[test]
fn what_is_excluded_or_not_allowed_is_left_out() {
    let (d, items) = (20, 2500);
    let factors = matrix(8, items, d);
    let users = numbers(9, 7 * d);
    let users: Vec<&[f32]> = users.chunks(d).collect();
    let mut allowed = ItemSet::new(items);
    (0..items as u32).filter(|i| mix((*i).into()).is_multiple_of(3)).for_each(|i| allowed.insert(i));
    let best = best_items(factors.view(), users[0], 60, &EVERYTHING, &Unwatched).unwrap();
    let mut excluded: Vec<u32> = best.iter().step_by(2).map(|&(_, item)| item).collect();
    excluded.sort_unstable();
    for listed in [
        Listed { excluded: &excluded, ..EVERYTHING },
        Listed { allowed: Some(&allowed), ..EVERYTHING },
        Listed { excluded: &excluded, allowed: Some(&allowed) },
    ] {
        assert!(check("filtered", factors.view(), &users, 10, &listed) > 0);
    }
}

#[test]
fn the_copy_is_the_same_on_any_number_of_threads() {
    let factors = matrix(3, 40_000, 6);
    let copies = [1, 2, 5].map(|threads| Quantized::of(factors.view(), threads, &Unwatched).unwrap().unwrap());
    for copy in &copies[1..] {
        assert!(*copy.bytes == *copies[0].bytes && *copy.order == *copies[0].order);
        assert!(*copy.scales == *copies[0].scales && *copy.errors == *copies[0].errors);
        assert!(*copy.norms == *copies[0].norms && *copy.ratios == *copies[0].ratios);
    }
}
