//! The results beside their targets: for a terminal, as JSON, and as a table for RESULTS.md.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::stats::Samples;

/// One figure.
pub struct Row {
    /// The name of the figure.
    pub figure: &'static str,
    pub target: Target,
    /// The value that is compared with the target.
    pub measured: f64,
    /// The measurements of psi.
    pub ours: Side,
    /// The measurements of the comparison.
    pub beside: Side,
}

/// Measurements with their name.
pub struct Side {
    pub what: String,
    pub unit: Unit,
    pub samples: Samples,
}

#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64, Unit),
    AtLeast(f64, Unit),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Times,
    Percent,
    Micros,
    Millis,
    Seconds,
    PerSecond,
    MiB,
    Bytes,
    Count,
}

impl Side {
    pub fn new(what: impl Into<String>, unit: Unit, samples: Samples) -> Self {
        Self { what: what.into(), unit, samples }
    }

    fn words(&self) -> String {
        let Self { what, unit, samples } = self;
        let median = unit.show(samples.median());
        match samples.count() {
            0 | 1 => format!("{what}: {median}"),
            _ => format!("{what}: {median}, p99 {}", unit.show(samples.p99())),
        }
    }

    fn json(&self) -> Value {
        let Self { what, unit, samples } = self;
        json!({"what": what, "unit": unit.name(), "median": samples.median(), "p99": samples.p99(), "samples": samples.count()})
    }
}

impl Row {
    /// A figure that is the ratio of two medians.
    pub fn ratio(figure: &'static str, target: Target, ours: Side, beside: Side) -> Self {
        let measured = ours.samples.median() / beside.samples.median();
        Self { figure, target, measured, ours, beside }
    }

    /// A figure that is a median itself.
    pub fn median(figure: &'static str, target: Target, ours: Side, beside: Side) -> Self {
        Self { figure, target, measured: ours.samples.median(), ours, beside }
    }

    pub fn is_met(&self) -> bool {
        self.share() <= 1.0
    }

    /// The share of the target that is used.
    pub fn share(&self) -> f64 {
        match self.target {
            Target::AtMost(limit, _) => self.measured / limit,
            Target::AtLeast(limit, _) => limit / self.measured,
        }
    }

    pub fn shown(&self) -> String {
        self.target.unit().show(self.measured)
    }

    pub fn beside(&self) -> String {
        format!("{}; {}", self.ours.words(), self.beside.words())
    }

    fn json(&self) -> Value {
        let ratio = self.ours.samples.median() / self.beside.samples.median();
        json!({
            "figure": self.figure, "target": self.target.show(), "measured": self.measured,
            "unit": self.target.unit().name(), "met": self.is_met(), "ratio": ratio,
            "ours": self.ours.json(), "beside": self.beside.json(),
        })
    }
}

impl Target {
    pub fn unit(self) -> Unit {
        let (Self::AtMost(_, unit) | Self::AtLeast(_, unit)) = self;
        unit
    }

    pub fn show(self) -> String {
        match self {
            Self::AtMost(limit, unit) => format!("≤ {}", unit.show(limit)),
            Self::AtLeast(limit, unit) => format!("≥ {}", unit.show(limit)),
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Times => "×",
            Self::Percent => "%",
            Self::Micros => "µs",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::PerSecond => "/s",
            Self::MiB => "MiB",
            Self::Bytes => "B",
            Self::Count => "",
        }
    }

    pub fn show(self, value: f64) -> String {
        let name = self.name();
        match self {
            Self::Times => format!("{value:.3}×"),
            Self::Percent => format!("{:.0} %", value * 100.0),
            Self::Millis | Self::MiB | Self::Seconds if value < 100.0 => {
                format!("{value:.1} {name}")
            }
            Self::PerSecond => format!("{}{name}", grouped(value)),
            _ => format!("{} {name}", grouped(value)).trim_end().to_owned(),
        }
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digit.is_ascii_digit() && out != "-" {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A line for the terminal, printed as soon as it is known.
pub fn line(row: &Row) -> String {
    let verdict = if row.is_met() { "met   " } else { "MISSED" };
    format!(
        "{verdict} {:<62} {:>14} {:>14}   {}",
        row.figure,
        row.target.show(),
        row.shown(),
        row.beside()
    )
}

pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| figure | target | measured | | medians, and what they were measured in turn with |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let verdict = if row.is_met() { "met" } else { "**missed**" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {verdict} | {} |",
            row.figure,
            row.target.show(),
            row.shown(),
            row.beside()
        );
    }
    text
}

pub fn json(rows: &[Row], about: &Value) -> Value {
    json!({"about": about, "figures": rows.iter().map(Row::json).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_formats_numbers_with_units() {
        assert_eq!(Unit::PerSecond.show(23_456.7), "23,457/s");
        assert_eq!(Unit::Count.show(123.0), "123");
        assert_eq!(Unit::Times.show(1.234), "1.234×");
        assert_eq!(Unit::Bytes.show(1_082_040.0), "1,082,040 B");
    }
}
