//! What `psid check` refuses and a start does not: a config with it works in part, and a host that ran with it
//! before an update must run after it.

use psi_common::check::excerpt;
use toml::Spanned;

use super::fault::Fault;
use super::raw::RawConfig;

/// The suffixes of the units that a quadlet makes, and of quadlets.
const SUFFIXES: [&str; 8] =
    [".service", ".container", ".kube", ".pod", ".image", ".build", ".volume", ".network"];

/// The objections to a config, in the order of its lines.
pub(super) fn objections(raw: &RawConfig) -> Vec<Fault> {
    let mut all = Vec::new();
    if raw.is_untouched() {
        // Without a place: nothing in it is wrong.
        all.push(Fault {
            at: None,
            what: "it names no provider and no key backend, as the packaged template: psid can neither fetch nor \
                   store a secret; `psictl init` fills it in, and psi.toml(5) documents every key"
                .into(),
        });
    }
    for (name, id) in raw.project_ids() {
        all.extend(project_id(name, id));
    }
    for (name, at, sources) in raw.workload_places() {
        all.extend(workload_name(name).map(|what| Fault::at(at, what)));
        if sources == 0 {
            let what = format!(
                "workload '{}': secrets is empty; name a source, or remove the workload",
                excerpt(name)
            );
            all.push(Fault::at(at, what));
        }
    }
    all.sort_by_key(|fault| fault.at);
    all
}

/// Infisical's ids are UUIDs; projects that are older than its move from MongoDB keep 24 hexadecimal digits.
fn project_id(name: &str, id: &Spanned<String>) -> Option<Fault> {
    let text = id.get_ref();
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<&str> = text.split('-').collect();
    let is_uuid = parts.len() == 5
        && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| is_hex(part, length));
    if is_uuid || is_hex(text, 24) {
        return None;
    }
    let what = format!(
        "project '{name}': the id '{}' is no UUID; copy the project's id (not its slug or name) from its settings at \
         Infisical",
        excerpt(text)
    );
    Some(Fault::of(id, what))
}

/// A workload's name is its quadlet's, without a suffix.
fn workload_name(name: &str) -> Option<String> {
    let shown = excerpt(name);
    if let Some(suffix) = SUFFIXES.iter().find(|suffix| name.ends_with(*suffix)) {
        let stem = excerpt(name.strip_suffix(suffix).unwrap_or(name));
        return Some(format!(
            "workload '{shown}' is named as a unit; name it '{stem}', without the suffix"
        ));
    }
    let name_fault = psi_common::check::workload(name).err()?;
    Some(format!(
        "workload '{shown}' cannot be the name of a quadlet: it {}; name it as its quadlet, as [workloads.my-app]",
        name_fault.why()
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    const GOOD: &str = "[cache]\nbackend = \"tpm\"\n\
        [providers.infisical]\n[providers.infisical.auth]\nmethod = \"universal-auth\"\n\
        client_id = \"c\"\nclient_secret_file = \"/s\"\n\
        [providers.infisical.projects.p]\n\
        id = \"6f2d1b0e-0000-4000-8000-00000000000a\"\nenvironment = \"prod\"\n\
        [workloads.app]\nprovider = \"infisical\"\nsecrets = [{ project = \"p\" }]\n";

    fn objections(text: &str) -> Vec<String> {
        Config::parse(text, Path::new("config.toml")).unwrap().objections
    }

    #[test]
    fn good_config_has_no_objection() {
        assert_eq!(objections(GOOD), Vec::<String>::new());
        let literals_only = "[cache]\nbackend = \"tpm\"\n";
        assert_eq!(objections(literals_only), Vec::<String>::new());
        let of_mongo =
            GOOD.replace("6f2d1b0e-0000-4000-8000-00000000000a", "64c2f1d2e4b0a1a2b3c4d5e6");
        assert_eq!(objections(&of_mongo), Vec::<String>::new());
        let template = GOOD.replace("workloads.app", "workloads.\"app@\"");
        assert_eq!(objections(&template), Vec::<String>::new());
    }

    #[test]
    fn objections_name_their_line_and_the_correction() {
        for (from, to, expected) in [
            (
                "6f2d1b0e-0000-4000-8000-00000000000a",
                "my-project",
                "config.toml:9: project 'p': the id 'my-project'",
            ),
            ("6f2d1b0e-", "6f2d1b0-", "config.toml:9: project 'p': the id '6f2d1b0-"),
            (
                "workloads.app",
                "workloads.\"my app\"",
                "config.toml:12: workload 'my app' cannot be",
            ),
            (
                "workloads.app",
                "workloads.\"x.service\"",
                "config.toml:12: workload 'x.service' is named as a unit; name it 'x'",
            ),
            (
                "workloads.app",
                "workloads.\"x.container\"",
                "config.toml:12: workload 'x.container'",
            ),
            ("[{ project = \"p\" }]", "[]", "config.toml:12: workload 'app': secrets is empty"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let found = objections(&text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(expected), "{}", found[0]);
        }
    }

    #[test]
    fn untouched_template_is_objected_to() {
        let template = include_str!("../../../contrib/config/psi.toml");
        for text in [template, "", "[cache]\nrefresh_interval = \"1h\"\n"] {
            let found = objections(text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("config.toml: it names no provider"), "{}", found[0]);
        }
    }
}
