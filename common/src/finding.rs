//! What `psid doctor` tells psi-driver, as JSON, and psi-driver the admin.

/// Something on this host that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A word for the cause, which stays the same: findings are grouped by it.
    pub cause: String,
    /// What happened, with its cause.
    pub what: String,
    /// What to do; empty when `what` has it already.
    pub remedy: String,
    /// The names of the secrets that it concerns.
    pub affects: Vec<String>,
}

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A container would not start, or a secret could not be made.
    Error,
    /// Nothing fails now.
    Warning,
    /// As it must be, and good to know.
    Note,
}

impl Finding {
    /// A finding that stops something now.
    pub fn error(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Error, what.into(), remedy.into())
    }

    /// A finding that stops nothing yet.
    pub fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Warning, what.into(), remedy.into())
    }

    /// A finding that is no fault.
    pub fn note(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Note, what.into(), remedy.into())
    }

    fn new(severity: Severity, what: String, remedy: String) -> Self {
        Self { severity, cause: "other".into(), what, remedy, affects: Vec::new() }
    }

    /// The same, with its cause.
    #[must_use]
    pub fn of(self, cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), ..self }
    }

    /// The same, with the secrets that it concerns.
    #[must_use]
    pub fn affecting<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { affects: names.into_iter().map(str::to_owned).collect(), ..self }
    }
}

impl Severity {
    const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Note];

    /// The severity's name, in JSON and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    /// The severity of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}
