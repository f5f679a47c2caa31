//! Medians, quantiles and spreads.
//!
//! In: samples. Out: the numbers that stand in the report. Guarantee: pure; a figure of several rounds is the median of the
//! rounds' figures, and its spread the least and the greatest of them.

/// A figure of several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Figure {
    /// `None` of no rounds.
    #[must_use]
    pub fn of(rounds: &[f64]) -> Option<Self> {
        Some(Self {
            median: quantile(rounds, 0.5)?,
            least: quantile(rounds, 0.0)?,
            greatest: quantile(rounds, 1.0)?,
        })
    }
}

/// The sample of which this part of all is not greater, or `None` of no samples.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among some thousand samples"
)]
pub fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_in_any_order() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        for (part, expected) in [(0.0, 1.0), (0.2, 1.0), (0.5, 3.0), (0.99, 5.0), (1.0, 5.0)] {
            assert_eq!(quantile(&samples, part), Some(expected), "{part}");
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_figure_has_the_median_of_its_rounds_between_the_least_and_the_greatest() {
        let figure = Figure::of(&[2.0, 9.0, 1.0]);
        assert_eq!(figure, Some(Figure { median: 2.0, least: 1.0, greatest: 9.0 }));
    }
}
