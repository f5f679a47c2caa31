//! What DynamoDB's calls use and what a partition can bear: sizes of items, units, and throttling.
//!
//! In: items before and after, and who reads or writes which partition. Out: whether a partition can bear it, and a sum of
//! all units, as they would be billed. Guarantee: within any second a partition gives no more than it may.
//!
//! - Units: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/capacity-unit-calculations.html>
//! - Sizes: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
//! - Limits: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>
//! - Indexes, and that theirs are limits of the table's writes, too:
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html#GSI.ThroughputConsiderations>
//!
//! Harsher than AWS: each partition key is a partition that never splits, and there is no burst.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::AddAssign,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::expression::Item;

/// Maximum number of write units of a partition in a second.
const WRITES_MAX: u64 = 1000;
/// Maximum number of read units of a partition in a second, in halves.
const HALF_READS_MAX: u64 = 2 * 3000;
/// What a partition's limit is counted over.
const SECOND: Duration = Duration::from_secs(1);
/// What one write unit writes.
const WRITE_BYTES: u64 = 1024;
/// What one read unit reads.
const READ_BYTES: u64 = 4096;

/// Units of reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Units {
    /// Number of write units.
    pub writes: u64,
    /// Number of halves of read units: a read that is eventually consistent uses one for each 4 KB.
    pub half_reads: u64,
}

impl Units {
    pub(super) const fn of_writes(writes: u64) -> Self {
        Self { writes, half_reads: 0 }
    }

    /// Number of read units.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "for reports; there are no 2^53 of them")]
    pub fn reads(self) -> f64 {
        self.half_reads as f64 / 2.0
    }
}

impl AddAssign for Units {
    fn add_assign(&mut self, more: Self) {
        self.writes += more.writes;
        self.half_reads += more.half_reads;
    }
}

/// What was used so far, as DynamoDB would bill it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// All units.
    pub total: Units,
    /// Units by table, and by index as `table/index/name`.
    pub by_resource: BTreeMap<String, Units>,
    /// Number of calls that were throttled, wholly or in part.
    pub throttled_calls: u64,
}

/// A partition of a table, or of one of its indexes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partition {
    pub table: String,
    pub index: Option<String>,
    /// The value of its partition key.
    pub key: String,
}

impl Partition {
    fn resource(&self) -> String {
        match &self.index {
            None => self.table.clone(),
            Some(index) => format!("{}/index/{index}", self.table),
        }
    }
}

/// Units that a call wants of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demand {
    pub partition: Partition,
    pub units: Units,
}

/// Why a call was throttled: of this resource a partition can bear no more.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ThrottlingReason.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Throttled {
    pub reason: String,
    pub resource: String,
    pub is_index: bool,
}

impl Throttled {
    fn of(demand: &Demand) -> Self {
        let is_index = demand.partition.index.is_some();
        let resource = if is_index { "Index" } else { "Table" };
        let operation = if demand.units.writes > 0 { "Write" } else { "Read" };
        Self {
            reason: format!("{resource}{operation}KeyRangeThroughputExceeded"),
            resource: demand.partition.resource(),
            is_index,
        }
    }

    /// As transactions of tables on demand are answered, word by word.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
    pub(super) fn message(&self) -> &'static str {
        if self.is_index {
            "Throughput exceeds the current capacity for one or more global secondary indexes. DynamoDB is automatically scaling your index so please try again shortly."
        } else {
            "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically scaling your table or index so please try again shortly. If exceptions persist, check if you have a hot key: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"
        }
    }
}

/// What a partition gave within the last second.
#[derive(Debug, Default)]
struct Recent(VecDeque<(Instant, Units)>);

impl Recent {
    fn sum(&mut self, now: Instant) -> Units {
        while self.0.front().is_some_and(|(at, _)| *at + SECOND <= now) {
            self.0.pop_front();
        }
        let mut sum = Units::default();
        self.0.iter().for_each(|(_, units)| sum += *units);
        sum
    }
}

#[derive(Debug, Default)]
pub(super) struct Throughput {
    partitions: BTreeMap<Partition, Recent>,
    usage: Usage,
}

impl Throughput {
    pub(super) fn usage(&self) -> Usage {
        self.usage.clone()
    }

    pub(super) fn note_throttled_call(&mut self) {
        self.usage.throttled_calls += 1;
    }

    /// Which of these are too much, by their places. What is more than a second's worth by itself is let through by a
    /// partition that has rested: it could never be carried out.
    pub(super) fn too_much(&mut self, demands: &[Demand]) -> BTreeMap<usize, Throttled> {
        let now = Instant::now();
        let mut wanted: BTreeMap<&Partition, Units> = BTreeMap::new();
        for demand in demands {
            *wanted.entry(&demand.partition).or_default() += demand.units;
        }
        let over: BTreeSet<&Partition> = wanted
            .into_iter()
            .filter(|(partition, wanted)| {
                let recent = self.partitions.get_mut(partition).map(|recent| recent.sum(now));
                let recent = recent.unwrap_or_default();
                let is_over =
                    |recent, wanted, max| recent > 0 && wanted > 0 && recent + wanted > max;
                is_over(recent.writes, wanted.writes, WRITES_MAX)
                    || is_over(recent.half_reads, wanted.half_reads, HALF_READS_MAX)
            })
            .map(|(partition, _)| partition)
            .collect();
        let demands = demands.iter().enumerate();
        let demands = demands.filter(|(_, demand)| over.contains(&demand.partition));
        demands.map(|(place, demand)| (place, Throttled::of(demand))).collect()
    }

    pub(super) fn charge(&mut self, demands: impl IntoIterator<Item = Demand>) {
        let now = Instant::now();
        for Demand { partition, units } in demands {
            self.usage.total += units;
            *self.usage.by_resource.entry(partition.resource()).or_default() += units;
            let recent = self.partitions.entry(partition).or_default();
            let _ = recent.sum(now);
            recent.0.push_back((now, units));
        }
    }
}

/// Size of an item: names and values.
pub(super) fn item_bytes(item: &Item) -> u64 {
    item.iter().map(|(name, value)| bytes(name) + value_bytes(value)).sum()
}

fn bytes(text: &str) -> u64 {
    text.len() as u64
}

fn value_bytes(value: &Value) -> u64 {
    // Lists and maps: three bytes, and one for each of their elements.
    const COLLECTION: u64 = 3;
    let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else {
        return 0;
    };
    let elements = || value.as_array().into_iter().flatten();
    match kind.as_str() {
        "S" => bytes(value.as_str().unwrap_or_default()),
        "N" => number_bytes(value),
        // In base 64 on the wire.
        "B" => bytes(value.as_str().unwrap_or_default()) / 4 * 3,
        "SS" | "BS" => elements().map(|text| bytes(text.as_str().unwrap_or_default())).sum(),
        "NS" => elements().map(number_bytes).sum(),
        "L" => COLLECTION + elements().map(|value| 1 + value_bytes(value)).sum::<u64>(),
        "M" => {
            let fields = value.as_object().into_iter().flatten();
            COLLECTION
                + fields.map(|(name, value)| 1 + bytes(name) + value_bytes(value)).sum::<u64>()
        }
        _ => 1,
    }
}

/// About one byte for two significant digits, and one.
fn number_bytes(number: &Value) -> u64 {
    let number = number.as_str().unwrap_or_default();
    let digits = number.chars().filter(char::is_ascii_digit).count() as u64;
    digits.div_ceil(2) + 1 + u64::from(number.starts_with('-'))
}

/// Write units of an item of this size; what is not there costs one, too.
pub(super) fn write_units(bytes: u64) -> u64 {
    bytes.div_ceil(WRITE_BYTES).max(1)
}

/// Halves of read units of so many bytes; reading nothing costs as much as reading little.
pub(super) fn half_read_units(bytes: u64, is_consistent: bool) -> u64 {
    bytes.div_ceil(READ_BYTES).max(1) * if is_consistent { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_size_is_that_of_names_and_values() {
        let item = |value: Value| Item::from([("name".to_owned(), value)]);
        for (value, expected) in [
            (json!({ "S": "äb" }), 4 + 3),
            (json!({ "N": "12345" }), 4 + 4),
            (json!({ "N": "-1" }), 4 + 3),
            (json!({ "BOOL": true }), 4 + 1),
            (json!({ "NULL": true }), 4 + 1),
            (json!({ "L": [{ "S": "a" }] }), 4 + 3 + 2),
            (json!({ "M": { "x": { "S": "a" } } }), 4 + 3 + 3),
        ] {
            assert_eq!(item_bytes(&item(value.clone())), expected, "{value}");
        }
    }

    #[test]
    fn units_are_rounded_up_and_never_none() {
        assert_eq!([0, 1, 1024, 1025].map(write_units), [1, 1, 1, 2]);
        assert_eq!([0, 4096, 4097].map(|bytes| half_read_units(bytes, true)), [2, 2, 4]);
        assert_eq!([0, 4096, 4097].map(|bytes| half_read_units(bytes, false)), [1, 1, 2]);
    }
}
