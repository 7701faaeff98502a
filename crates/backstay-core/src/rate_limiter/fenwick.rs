//! Prefix sums over a sequence that grows at its end.

use alloc::vec::Vec;

/// An element of a [`FenwickTree`]. Addition wraps: a sum of wrapped parts is right if the sum itself fits.
pub(super) trait Summable: Copy + Default {
    fn plus(self, other: Self) -> Self;
}

impl Summable for i128 {
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

impl Summable for u32 {
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

/// A [Fenwick tree](https://en.wikipedia.org/wiki/Fenwick_tree).
///
/// Changing an element and computing a prefix sum take O(log n); appending takes O(1), amortized.
///
/// Node `i` (from 1) holds the sum of the `i & -i` elements that end with element `i`.
#[derive(Clone, Debug, Default)]
pub(super) struct FenwickTree<T>(Vec<T>);

impl<T: Summable> FenwickTree<T> {
    pub(super) fn push(&mut self, value: T) {
        let node = self.0.len() + 1;
        let (mut sum, mut step) = (value, 1);
        while node & step == 0 {
            sum = sum.plus(self.0[node - step - 1]);
            step <<= 1;
        }
        self.0.push(sum);
    }

    /// Adds `value` to the element at `index`.
    pub(super) fn add(&mut self, index: usize, value: T) {
        let mut node = index + 1;
        while let Some(sum) = self.0.get_mut(node - 1) {
            *sum = sum.plus(value);
            node += node & node.wrapping_neg();
        }
    }

    /// Returns the sum of the first `count` elements.
    pub(super) fn prefix_sum(&self, count: usize) -> T {
        let (mut node, mut sum) = (count.min(self.0.len()), T::default());
        while node > 0 {
            sum = sum.plus(self.0[node - 1]);
            node &= node - 1;
        }
        sum
    }

    /// Returns the length of the longest prefix with a sum that satisfies `within`.
    ///
    /// The sums must not decrease, and `within` must not hold again after it has failed.
    pub(super) fn count_while(&self, within: impl Fn(T) -> bool) -> usize {
        let (mut count, mut sum) = (0, T::default());
        let mut step = (self.0.len() + 1).next_power_of_two() / 2;
        while step > 0 {
            if let Some(node) = self.0.get(count + step - 1)
                && within(sum.plus(*node))
            {
                sum = sum.plus(*node);
                count += step;
            }
            step /= 2;
        }
        count
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.0.shrink_to(capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::cases(256))]

        #[test]
        fn prefix_sums_equal_those_of_a_plain_list(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..100u32), 1..24)) {
            let (mut sums, mut list) = (FenwickTree::<u32>::default(), Vec::new());
            for (append, index, value) in steps {
                if append || list.is_empty() {
                    sums.push(value);
                    list.push(value);
                } else {
                    let index = index.index(list.len());
                    sums.add(index, value);
                    list[index] += value;
                }
                for count in 0..=list.len() {
                    let sum: u32 = list[..count].iter().sum();
                    prop_assert_eq!(sums.prefix_sum(count), sum);
                    let longest = (0..=list.len()).rev().find(|count| list[..*count].iter().sum::<u32>() <= sum);
                    prop_assert_eq!(Some(sums.count_while(|other| other <= sum)), longest);
                }
            }
        }
    }
}
