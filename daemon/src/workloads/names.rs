//! The limits of podman, systemd and Linux on names, and on the value of a variable.

use psi_common::{MAX_VARIABLE_BYTES, SecretBytes, check};

use crate::provider::Source;

/// Why a value cannot be a variable: podman or the container runtime would change it.
pub(super) fn variable_fault(variable: &str, value: &SecretBytes) -> Option<&'static str> {
    let bytes = value.expose_secret();
    if bytes.contains(&0) {
        return Some("the value holds a NUL: as a variable, runc refuses it and crun truncates it");
    }
    if variable.len() + 1 + bytes.len() >= MAX_VARIABLE_BYTES {
        return Some("the value is over 128 KiB: no container starts with such a variable");
    }
    if std::str::from_utf8(bytes).is_err() {
        return Some("the value is not UTF-8: as a variable, podman replaces bytes of it");
    }
    None
}

/// The error of a variable with such a value.
pub(super) fn unusable_variable(workload: &str, variable: &str, fault: &str) -> String {
    let variable = check::excerpt(variable);
    format!(
        "{variable}: {fault}; add \"{variable}\" to mount of [workloads.\"{workload}\"], for a file in /run/secrets \
         instead of a variable"
    )
}

/// The error of a key that a source selects and does not have.
pub(super) fn missing_key(workload: &str, source: &Source, key: &str) -> String {
    format!(
        "{source} has no key '{}' that psid may read, and keys or env of [workloads.\"{workload}\"] names it; correct it \
         there, or add the key at the provider",
        check::excerpt(key)
    )
}

/// The error of an entry of `mount` that no source has.
pub(super) fn missing_file(workload: &str, key: &str) -> String {
    format!(
        "no source has a key '{}' that psid may read, and mount of [workloads.\"{workload}\"] names it; correct it \
         there, or add the key at the provider",
        check::excerpt(key)
    )
}

/// Why a workload cannot be set up: its name and its dependencies become a path, a unit's name and lines of a unit.
pub(super) fn workload_fault(name: &str, depends_on: &[String]) -> Option<String> {
    if check::workload(name).is_err() {
        return Some(format!(
            "'{}' is not a valid name of a workload; use letters, digits and _.-, and @ at the end for a template",
            check::excerpt(name)
        ));
    }
    let bad = depends_on.iter().find(|unit| check::unit(unit).is_err())?;
    Some(format!(
        "depends_on has '{}', which is not the full name of a unit, like network-online.target",
        check::excerpt(bad)
    ))
}

/// Why a variable or a file of this name cannot be set up.
pub(super) fn key_fault(workload: &str, variable: &str, name: &str, mount: bool) -> Option<String> {
    let shown = check::excerpt(variable);
    if check::secret_name(name).is_err() {
        return Some(format!(
            "the key '{shown}' makes no valid name of a podman secret: letters, digits and _.-, and at most 253 \
             characters with the workload's name; rename it at the provider, or give it a variable of its own by env \
             of [workloads.\"{workload}\"]"
        ));
    }
    (!mount && check::variable(variable).is_err()).then(|| {
        format!(
            "the key '{shown}' is not a valid name of a variable; give it one by env of [workloads.\"{workload}\"], or \
             add it to mount there, for a file in /run/secrets"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault_of(value: Vec<u8>) -> Option<&'static str> {
        variable_fault("KEY", &SecretBytes::new(value))
    }

    #[test]
    fn values_that_podman_changes_as_variables_are_reported() {
        assert_eq!(fault_of(b"a\r\n\xc3\xa4".to_vec()), None);
        assert!(fault_of(b"a\0b".to_vec()).unwrap().contains("NUL"));
        assert!(fault_of(b"a\xff".to_vec()).unwrap().contains("UTF-8"));
        // The limit includes `KEY=` and the final NUL.
        assert_eq!(fault_of(vec![b'x'; 131_072 - 5]), None);
        assert!(fault_of(vec![b'x'; 131_072 - 4]).unwrap().contains("128 KiB"));
    }

    #[test]
    fn names_with_other_characters_are_rejected() {
        assert_eq!(
            workload_fault("app", &["network-online.target".into(), "a@b\\x2d.service".into()]),
            None
        );
        assert_eq!(workload_fault("worker@", &[]), None);
        for name in ["", "@", "a b", "../etc", "a/b", "a\n[Service]", "-a", "a%i", "a@b@", "ä"] {
            assert!(workload_fault(name, &[]).is_some(), "{name}");
        }
        for unit in [
            "",
            "network",
            "a.exe",
            "@.service",
            "a b.service",
            "a.service\nExecStart=x",
            ".service",
            "a.",
        ] {
            assert!(workload_fault("app", &[unit.into()]).is_some(), "{unit}");
        }
        assert_eq!(key_fault("app", "DB_HOST", "app--DB_HOST", false), None);
        assert_eq!(key_fault("app", "tls.key", "app--tls.key", true), None);
        for (key, expected) in [
            ("tls.key", "not a valid name of a variable"),
            ("1st", "not a valid name of a variable"),
            ("a b", "no valid name of a podman secret"),
            ("a\nSecret=x", "no valid name of a podman secret"),
            ("a,type=mount", "no valid name of a podman secret"),
            ("%h", "no valid name of a podman secret"),
        ] {
            let why = key_fault("app", key, &format!("app--{key}"), false).unwrap();
            assert!(why.contains(expected) && !why.contains('\n'), "{key}: {why}");
        }
        let long = "K".repeat(250);
        assert!(key_fault("app", &long, &format!("app--{long}"), false).unwrap().contains("253"));
    }

    proptest! {
        #[test]
        fn accepted_keys_make_one_line_with_one_secret(key in any::<String>()) {
            let name = format!("app--{key}");
            if key_fault("app", &key, &name, false).is_none() {
                let line = format!("Secret={name},type=env,target={key}");
                prop_assert!(line.is_ascii() && line.matches([',', '=']).count() == 5);
                prop_assert!(!line.contains(char::is_whitespace) && !line.contains(['%', '"', '\'', '\\']));
            }
        }
    }
}
