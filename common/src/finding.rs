//! A finding of `psid doctor` and `psictl doctor`. psid prints them as JSON, psictl reads them from there.

use serde::{Deserialize, Serialize};

use crate::Problem;

/// Something on this host that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// An identifier of the cause that does not change: findings are grouped by it.
    pub cause: String,
    /// What happened and what fixes it.
    #[serde(flatten)]
    pub problem: Problem,
    /// The names of the secrets that it concerns.
    #[serde(default)]
    pub affects: Vec<String>,
    /// The units that it concerns.
    #[serde(default)]
    pub units: Vec<String>,
}

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A container would not start, or a secret could not be made.
    Error,
    /// Nothing fails now.
    Warning,
    /// No fault, but good to know.
    Note,
}

impl Finding {
    /// A finding that makes something fail now.
    pub fn error(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Error, Problem::new(what, remedy))
    }

    /// A finding that makes nothing fail yet.
    pub fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Warning, Problem::new(what, remedy))
    }

    /// A finding that is no fault.
    pub fn note(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Note, Problem::new(what, remedy))
    }

    fn new(severity: Severity, problem: Problem) -> Self {
        Self { severity, cause: "other".into(), problem, affects: Vec::new(), units: Vec::new() }
    }

    /// The finding with its cause.
    #[must_use]
    pub fn of(self, cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), ..self }
    }

    /// The finding with the secrets that it concerns.
    #[must_use]
    pub fn affecting<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { affects: names.into_iter().map(str::to_owned).collect(), ..self }
    }

    /// The finding with the units that it concerns.
    #[must_use]
    pub fn on_units<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { units: names.into_iter().map(str::to_owned).collect(), ..self }
    }
}

impl Severity {
    /// The severity's name, in JSON and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn json_has_one_object_without_nesting_and_is_read_back() {
        let finding = Finding::note("a", "b").of("key").affecting(["s"]).on_units(["u"]);
        let json = json!({"severity": "note", "cause": "key", "what": "a", "remedy": "b", "affects": ["s"], "units": ["u"]});
        assert_eq!(to_value(&finding).unwrap(), json);
        assert_eq!(from_value::<Finding>(json).unwrap(), finding);
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            assert_eq!(to_value(severity).unwrap(), severity.name());
        }
    }

    #[test]
    fn json_with_an_unknown_field_is_read() {
        let newer =
            json!({"severity": "warning", "cause": "x", "what": "a", "remedy": "", "since": 1});
        assert_eq!(from_value::<Finding>(newer).unwrap(), Finding::warning("a", "").of("x"));
    }
}
