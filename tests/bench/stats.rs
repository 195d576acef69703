//! Small statistics.

/// The quantile for a share from 0 to 1, by nearest rank; NaN without values. Sorts the values.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length is within it")]
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Arithmetic mean; NaN without values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Gini coefficient: 0 if all values are equal, near 1 if one value holds the total; 0 without values. Sorts the
/// values.
pub(crate) fn gini(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let (count, total) = (values.len() as f64, values.iter().sum::<f64>());
    if total <= 0.0 {
        return 0.0;
    }
    let weighted: f64 = (1..).zip(values.iter()).map(|(rank, value)| f64::from(rank) * value).sum();
    2.0 * weighted / (count * total) - (count + 1.0) / count
}

/// Median, minimum and maximum of repeated runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub median: f64,
    /// Minimum.
    pub least: f64,
    /// Maximum.
    pub most: f64,
}

impl Spread {
    /// From one value for each run.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        let median = quantile(&mut values, 0.5);
        let at = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Self { median, least: at(values.first()), most: at(values.last()) }
    }

    /// `median (least to most)`.
    pub(crate) fn text(&self) -> String {
        self.shown(number)
    }

    /// Like [`Self::text`], with another format of the values.
    pub(crate) fn shown(&self, show: impl Fn(f64) -> String) -> String {
        let (median, least, most) = (show(self.median), show(self.least), show(self.most));
        if least == most { median } else { format!("{median} ({least} to {most})") }
    }
}

/// A number with three significant digits, and with separators from 1,000.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 || size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.01 => 3,
        _ => 5,
    };
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_once('.').map_or((plain.as_str(), ""), |(whole, rest)| (whole, rest));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{rest}") }
}

/// A share from 0 to 1 as a percentage.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_sample() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|share| number(quantile(&mut values, share)));
        assert_eq!(found, ["1.00", "50.0", "99.0", "100"]);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn gini_is_zero_for_equal_values_and_near_one_if_one_holds_the_total() {
        assert!(gini(&mut [3.0; 10]).abs() < 1e-12);
        let mut one = vec![0.0; 100];
        one[5] = 7.0;
        assert!((gini(&mut one) - 0.99).abs() < 1e-12);
        assert!(gini(&mut [0.0; 4]).abs() < f64::EPSILON);
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.004_56, 0.123_4, 1.234, 12.34, 1234.5, 1_234_567.0, -1234.5].map(number);
        assert_eq!(shown, ["0", "0.00456", "0.123", "1.23", "12.3", "1,234", "1,234,567", "-1,234"]);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).text(), "2.00 (1.00 to 3.00)");
    }
}
