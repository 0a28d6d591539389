//! What somebody has, as the test describes it.

use serde_json::Value;

/// What somebody has.
pub(crate) struct Target {
    pub(crate) workload: String,
    pub(crate) key: String,
    /// The reference to the key, as JSON.
    pub(crate) reference: String,
    /// Registered ids.
    pub(crate) ids: Vec<String>,
    /// Ids that can be restored.
    pub(crate) deleted: Vec<String>,
    pub(crate) values: Vec<String>,
}

impl Target {
    pub(crate) fn of(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("{name}")).to_owned();
        let texts = |name: &str| {
            let all = json[name].as_array().unwrap_or_else(|| panic!("{name}"));
            all.iter().map(|one| one.as_str().expect("a text").to_owned()).collect()
        };
        Self {
            workload: text("workload"),
            key: text("key"),
            reference: text("reference"),
            ids: texts("ids"),
            deleted: texts("deleted"),
            values: texts("values"),
        }
    }

    /// The same, with ids and keys that nobody has.
    pub(crate) fn unknown(&self) -> Self {
        let no_id = || vec!["fedcba9876543210fedcba987".to_owned()];
        Self {
            workload: self.workload.clone(),
            key: "NOBODY_HAS_IT".into(),
            reference: self.reference.replace(&self.key, "NOBODY_HAS_IT"),
            ids: no_id(),
            deleted: no_id(),
            values: Vec::new(),
        }
    }

    /// What must not be in an answer to others.
    pub(crate) fn private(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().chain(&self.deleted).chain(&self.values).map(String::as_str)
    }

    pub(crate) fn id(&self, number: usize) -> String {
        self.ids[number % self.ids.len()].clone()
    }

    pub(crate) fn deleted(&self, number: usize) -> String {
        self.deleted[number % self.deleted.len()].clone()
    }
}
