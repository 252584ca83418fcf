//! The `k` best of many scores, in one bounded heap.

/// The `k` best (score, item) pairs seen: higher scores first, and of equal ones the smaller item.
///
/// A binary heap whose root is the worst of those kept. NaN is never kept.
pub struct TopK {
    k: usize,
    heap: Vec<(f32, u32)>,
}

/// Whether `a` ranks below `b`.
#[inline(always)]
fn worse(a: (f32, u32), b: (f32, u32)) -> bool {
    a.0 < b.0 || (a.0 == b.0 && a.1 > b.1)
}

impl TopK {
    pub fn new(k: usize) -> Self {
        // No memory for a k far above what there is to rank.
        Self { k, heap: Vec::with_capacity(k.min(1024)) }
    }

    /// Only scores above this can still enter, of items that come in ascending order.
    #[inline(always)]
    pub fn threshold(&self) -> f32 {
        match self.heap.first() {
            _ if self.k == 0 => f32::INFINITY,
            Some(worst) if self.heap.len() == self.k => worst.0,
            _ => f32::NEG_INFINITY,
        }
    }

    pub fn is_full(&self) -> bool {
        self.heap.len() == self.k
    }

    pub fn push(&mut self, score: f32, item: u32) {
        if score.is_nan() || self.k == 0 {
            return;
        }
        let entry = (score, item);
        if self.heap.len() < self.k {
            self.heap.push(entry);
            let mut i = self.heap.len() - 1;
            while i > 0 && worse(self.heap[i], self.heap[(i - 1) / 2]) {
                self.heap.swap(i, (i - 1) / 2);
                i = (i - 1) / 2;
            }
        } else if worse(self.heap[0], entry) {
            self.heap[0] = entry;
            let mut i = 0;
            loop {
                let mut least = i;
                for child in [2 * i + 1, 2 * i + 2] {
                    if child < self.k && worse(self.heap[child], self.heap[least]) {
                        least = child;
                    }
                }
                if least == i {
                    break;
                }
                self.heap.swap(i, least);
                i = least;
            }
        }
    }

    /// Best first.
    pub fn into_sorted(self) -> Vec<(f32, u32)> {
        let mut sorted = self.heap;
        sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_ties_go_to_the_smaller_item() {
        let scores: Vec<f32> = (0..1000u32).map(|i| (i * 7919 % 53) as f32).collect();
        let mut expected: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for k in [0, 1, 2, 10, 999, 1000, 5000] {
            let mut forward = TopK::new(k);
            let mut backward = TopK::new(k);
            (0..1000).for_each(|i| forward.push(scores[i], i as u32));
            (0..1000).rev().for_each(|i| backward.push(scores[i], i as u32));
            let kept = forward.into_sorted();
            assert_eq!(kept, expected[..k.min(1000)]);
            assert_eq!(backward.into_sorted(), kept);
        }
    }

    #[test]
    fn scores_that_are_no_numbers_are_never_kept() {
        let mut top = TopK::new(2);
        top.push(f32::NAN, 0);
        top.push(f32::NEG_INFINITY, 1);
        assert_eq!(top.into_sorted(), [(f32::NEG_INFINITY, 1)]);
    }
}
