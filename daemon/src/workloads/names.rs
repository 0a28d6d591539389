//! What podman, systemd and Linux take as names, and as the value of a variable.

use psi_common::{MAX_VARIABLE_BYTES, SecretBytes, check};

/// What podman would do to the value as a variable.
pub(super) fn damage(key: &str, value: &SecretBytes) -> Option<&'static str> {
    let bytes = value.expose_secret();
    if bytes.contains(&0) {
        return Some(
            "the value holds a NUL: as a variable, runc refuses it and crun cuts it there",
        );
    }
    if key.len() + 1 + bytes.len() >= MAX_VARIABLE_BYTES {
        return Some("the value is over 128 KiB: no container starts with such a variable");
    }
    if std::str::from_utf8(bytes).is_err() {
        return Some("the value is no UTF-8: as a variable, podman replaces bytes of it");
    }
    None
}

/// The names become a path, a unit's name and lines of a unit: nothing else than a name may be in them.
pub(super) fn fault(name: &str, depends_on: &[String]) -> Option<String> {
    if check::workload(name).is_err() {
        return Some(format!(
            "'{}' names no quadlet unit whose secrets podman could name; use letters, digits and _.-, and @ at \
             the end for a template",
            check::excerpt(name)
        ));
    }
    let bad = depends_on.iter().find(|unit| check::unit(unit).is_err())?;
    Some(format!(
        "depends_on names '{}', which is no unit; give its full name, as network-online.target",
        check::excerpt(bad)
    ))
}

/// Why a key cannot be set up.
pub(super) fn key_fault(workload: &str, key: &str, name: &str, mount: bool) -> Option<String> {
    let shown = check::excerpt(key);
    if check::secret_name(name).is_err() {
        return Some(format!(
            "the key '{shown}' makes no name of a podman secret; rename it at the provider: letters, digits and \
             _.- are good, and at most 253 characters with the workload's name"
        ));
    }
    (!mount && check::variable(key).is_err()).then(|| {
        format!(
            "the key '{shown}' is no name of a variable; rename it at the provider, or add it to mount of \
             [workloads.\"{workload}\"], for a file in /run/secrets"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn damage_of(value: Vec<u8>) -> Option<&'static str> {
        damage("KEY", &SecretBytes::new(value))
    }

    #[test]
    fn what_podman_would_damage_as_a_variable_is_told() {
        assert_eq!(damage_of(b"a\r\n\xc3\xa4".to_vec()), None);
        assert!(damage_of(b"a\0b".to_vec()).unwrap().contains("NUL"));
        assert!(damage_of(b"a\xff".to_vec()).unwrap().contains("UTF-8"));
        // `KEY=` and a NUL at its end go along.
        assert_eq!(damage_of(vec![b'x'; 131_072 - 5]), None);
        assert!(damage_of(vec![b'x'; 131_072 - 4]).unwrap().contains("128 KiB"));
    }

    #[test]
    fn n19_a_name_holds_nothing_but_a_name() {
        assert_eq!(
            fault("app", &["network-online.target".into(), "a@b\\x2d.service".into()]),
            None
        );
        assert_eq!(fault("worker@", &[]), None);
        for name in ["", "@", "a b", "../etc", "a/b", "a\n[Service]", "-a", "a%i", "a@b@", "ä"] {
            assert!(fault(name, &[]).is_some(), "{name}");
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
            assert!(fault("app", &[unit.into()]).is_some(), "{unit}");
        }
        assert_eq!(key_fault("app", "DB_HOST", "app--DB_HOST", false), None);
        assert_eq!(key_fault("app", "tls.key", "app--tls.key", true), None);
        for (key, words) in [
            ("tls.key", "no name of a variable"),
            ("1st", "no name of a variable"),
            ("a b", "no name of a podman secret"),
            ("a\nSecret=x", "no name of a podman secret"),
            ("a,type=mount", "no name of a podman secret"),
            ("%h", "no name of a podman secret"),
        ] {
            let why = key_fault("app", key, &format!("app--{key}"), false).unwrap();
            assert!(why.contains(words) && !why.contains('\n'), "{key}: {why}");
        }
        let long = "K".repeat(250);
        assert!(key_fault("app", &long, &format!("app--{long}"), false).unwrap().contains("253"));
    }

    proptest! {
        #[test]
        fn n19_a_line_of_a_unit_holds_one_secret(key in any::<String>()) {
            let name = format!("app--{key}");
            if key_fault("app", &key, &name, false).is_none() {
                let line = format!("Secret={name},type=env,target={key}");
                prop_assert!(line.is_ascii() && line.matches([',', '=']).count() == 5);
                prop_assert!(!line.contains(char::is_whitespace) && !line.contains(['%', '"', '\'', '\\']));
            }
        }
    }
}
