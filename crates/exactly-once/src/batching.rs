//! Cuts a list into batches that SNS and SQS take in one call.
//!
//! In: entries and the size of each. Out: slices, in order. Guarantee: no batch has more entries or bytes than a call
//! takes; an entry that is too large on its own gets a batch of its own, so that its refusal is its own.

/// Maximum number of entries in one PublishBatch or SendMessageBatch call.
/// <https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html>
pub const ENTRIES_MAX: usize = 10;
/// Maximum size of one such call in bytes, of bodies and attributes together.
pub const BYTES_MAX: usize = 256 * 1024;

/// The batches of these entries, of which `bytes_of` tells the size.
pub fn batches<T>(entries: &[T], bytes_of: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest
            .iter()
            .take(ENTRIES_MAX)
            .take_while(|entry| {
                bytes += bytes_of(entry);
                bytes <= BYTES_MAX
            })
            .count();
        let (batch, after) = rest.split_at(fitting.max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_keep_every_entry_in_order_and_within_what_a_call_takes(
            sizes in prop::collection::vec(0..300_000_usize, 0..40),
        ) {
            let batches = batches(&sizes, |size| *size);
            prop_assert_eq!(&batches.concat(), &sizes);
            for batch in batches {
                let bytes: usize = batch.iter().sum();
                prop_assert!(batch.len() == 1 || (batch.len() <= ENTRIES_MAX && bytes <= BYTES_MAX));
            }
        }
    }

    #[test]
    fn a_call_is_filled_by_count_and_by_bytes() {
        let lengths = |sizes: &[usize]| -> Vec<usize> {
            batches(sizes, |size| *size).into_iter().map(<[usize]>::len).collect()
        };
        assert_eq!(lengths(&[1; 25]), [10, 10, 5]);
        assert_eq!(lengths(&[200_000, 50_000, 50_000]), [2, 1]);
        assert_eq!(lengths(&[300_000, 1]), [1, 1]);
        assert_eq!(lengths(&[]), [0; 0]);
    }
}
