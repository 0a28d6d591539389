//! The checks of answers and flags. The error is one sentence, to follow a flag or to be shown at the terminal.

use std::path::Path;

use psi_common::check;

use crate::ctl::args::WorkloadArg;

pub(super) fn is_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && is_one_word(text).is_ok() => {
            Ok(())
        }
        _ => Err(format!("'{}' is no URL, as https://app.infisical.com is", check::excerpt(text))),
    }
}

pub(super) fn is_line(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("it is empty".into()) } else { Ok(()) }
}

pub(super) fn is_one_word(text: &str) -> Result<(), String> {
    is_line(text)?;
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it contains a blank or a control character".into());
    }
    Ok(())
}

/// Infisical's ids of projects.
pub(super) fn is_uuid(text: &str) -> Result<(), String> {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    if lengths == [8, 4, 4, 4, 12] && text.split('-').all(is_hex) {
        return Ok(());
    }
    Err(format!(
        "'{}' is no project id, as 6f2d1b0e-0000-4000-8000-00000000000a is; Infisical shows it in the project's \
         settings, and it is not the project's name",
        check::excerpt(text)
    ))
}

pub(super) fn is_project_name(text: &str) -> Result<(), String> {
    check::project(text).map_err(|error| error.to_string())
}

pub(super) fn is_workload_name(name: &str) -> Result<(), String> {
    if let Some((stem, "service" | "container" | "pod" | "kube")) = name.rsplit_once('.') {
        return Err(format!("'{}' has a unit's type; give '{stem}'", check::excerpt(name)));
    }
    check::workload(name).map_err(|error| error.to_string())
}

pub(super) fn is_path(path: &str) -> Result<(), String> {
    check::path(path).map_err(|error| error.to_string())
}

pub(super) fn is_workload(workload: &WorkloadArg, project: &str) -> Result<(), String> {
    is_workload_name(&workload.name)?;
    is_path(&workload.path)?;
    if !project.is_empty() && workload.project != project {
        let known = check::excerpt(project);
        return Err(format!(
            "the project '{}' is not --project's, '{known}'",
            check::excerpt(&workload.project)
        ));
    }
    Ok(())
}

pub(super) fn is_absolute(path: &str) -> Result<(), String> {
    if Path::new(path).is_absolute() { Ok(()) } else { Err("it is no absolute path".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_checked_before_they_are_used() {
        assert!(
            is_url("https://infisical.example:8443/x").is_ok()
                && is_url("http://127.0.0.1:1").is_ok()
        );
        for text in ["", "app.infisical.com", "ftp://x", "https://", "https:///x", "https://a b"] {
            assert!(is_url(text).is_err(), "{text}");
        }
        assert!(is_uuid("6f2d1b0e-0000-4000-8000-00000000000a").is_ok());
        for text in [
            "",
            "my-project",
            "6f2d1b0e000040008000000000000000a",
            "6f2d1b0e-0000-4000-8000-00000000000g",
        ] {
            assert!(is_uuid(text).unwrap_err().contains("no project id"), "{text}");
        }
        assert!(is_workload_name("my-app").is_ok());
        assert_eq!(
            is_workload_name("x.service").unwrap_err(),
            "'x.service' has a unit's type; give 'x'"
        );
        assert!(is_workload_name("my app").is_err() && is_path("/../x").is_err());
    }

    #[test]
    fn a_workload_of_another_project_is_refused() {
        let workload = |project: &str| WorkloadArg {
            name: "a".into(),
            project: project.into(),
            path: "/".into(),
        };
        assert!(is_workload(&workload("p"), "p").is_ok());
        assert!(
            is_workload(&workload("q"), "p").unwrap_err().contains("'q' is not --project's, 'p'")
        );
    }
}
