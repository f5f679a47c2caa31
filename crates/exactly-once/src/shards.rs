//! Spreads a sparse index over partitions, and finds everything in it whatever the number of partitions is or was.
//!
//! In: ids. Out: the partition in which an item with this id is written, and all partitions in which one may be.
//! Guarantee: the number of shards can be changed on a running system, up and down, and strands nothing: readers read
//! every partition that any permitted number has.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
};

/// Maximum number of partitions: at 1,000 write units a second each, 16,000 changes of the index a second.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>
pub const SHARDS_MAX: u64 = 16;

/// The number of partitions over which new items are spread: 1 to [`SHARDS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards(u64);

/// A number of shards is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 1 to {SHARDS_MAX}")]
pub struct InvalidShards;

impl Shards {
    /// The partition in which an item with this id is written.
    pub fn of(self, id: impl Hash) -> String {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        (hasher.finish() % self.0).to_string()
    }

    /// Every partition in which an item may be.
    pub fn all() -> impl Iterator<Item = String> {
        (0..SHARDS_MAX).map(|shard| shard.to_string())
    }
}

impl Default for Shards {
    /// Eight.
    fn default() -> Self {
        Self(8)
    }
}

impl FromStr for Shards {
    type Err = InvalidShards;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(count @ 1..=SHARDS_MAX) => Ok(Self(count)),
            _ => Err(InvalidShards),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_spread_over_all_shards_and_readers_know_each(
            seed in any::<u64>(), count in 1..=SHARDS_MAX,
        ) {
            let shards: Shards = count.to_string().parse().expect("in range");
            let used: BTreeSet<_> = (0..400).map(|n| shards.of(seed.wrapping_add(n))).collect();
            prop_assert_eq!(used.len() as u64, count);
            prop_assert!(used.is_subset(&Shards::all().collect()));
        }
    }

    #[test]
    fn a_number_of_shards_has_bounds() {
        for text in ["0", "17", "-1", "", "8.0"] {
            assert_eq!(text.parse::<Shards>(), Err(InvalidShards), "{text}");
        }
    }
}
