//! The checks of a plan: root writes its names into units, and passes its references to podman.

use psi_common::check;
use psi_proto::v1::{PlannedSecret, PlannedWorkload};
use serde_json::{Value, json};

use crate::client::{InvalidMessage, is_id};

pub(super) fn is_workload(workload: &PlannedWorkload) -> Result<(), InvalidMessage> {
    // Nothing is set up for one that has an error; people read its name.
    if !workload.error.is_empty() {
        return Ok(check::without_controls("the workload", &workload.name)?);
    }
    check::workload(&workload.name)?;
    check::without_controls("the user", &workload.user)?;
    // A shorter one would make other secrets of podman's the workload's, to be pruned.
    let prefix = format!("{}--", workload.name.trim_end_matches('@'));
    if workload.prefix != prefix {
        return Err(InvalidMessage(format!(
            "the names of {}'s secrets do not begin with {prefix}",
            workload.name
        )));
    }
    workload.depends_on.iter().try_for_each(|unit| check::unit(unit))?;
    workload.secrets.iter().try_for_each(|secret| is_secret(secret, &prefix))?;
    workload.kube.as_ref().map_or(Ok(()), |secret| is_document(secret, &workload.name))
}

/// The secret that holds all of a workload: anything else would replace another secret.
fn is_document(secret: &PlannedSecret, workload: &str) -> Result<(), InvalidMessage> {
    secret.ids.iter().try_for_each(|id| is_id(id))?;
    check::secret_name(&secret.name)?;
    let expected = json!({"provider": "psi", "workload": workload});
    let is_its_own = secret.name == workload.trim_end_matches('@')
        && serde_json::from_str::<Value>(&secret.reference).is_ok_and(|given| given == expected);
    if is_its_own {
        return Ok(());
    }
    Err(InvalidMessage(format!("the secret for kube of {workload} is not its own")))
}

fn is_secret(secret: &PlannedSecret, prefix: &str) -> Result<(), InvalidMessage> {
    secret.ids.iter().try_for_each(|id| is_id(id))?;
    check::without_controls("the key", &secret.key)?;
    check::without_controls("the reference", &secret.reference)?;
    if !secret.error.is_empty() {
        return Ok(());
    }
    check::secret_name(&secret.name)?;
    if secret.name.strip_prefix(prefix) != Some(secret.key.as_str()) {
        return Err(InvalidMessage(format!(
            "the secret {} is not {prefix} and its key",
            secret.name
        )));
    }
    // Podman would store anything else as the value.
    let reference = serde_json::from_str::<Value>(&secret.reference);
    if !reference.is_ok_and(|reference| reference["provider"].is_string()) {
        return Err(InvalidMessage(format!("the reference of {} names no provider", secret.name)));
    }
    // A line of a unit has both: `Secret=NAME,type=env,target=KEY`.
    let check_key = if secret.mount { check::file_name } else { check::variable };
    check_key(&secret.key)?;
    if !secret.target.is_empty() {
        check::mount_target(&secret.target)?;
    }
    [secret.uid, secret.gid].into_iter().flatten().try_for_each(check::mount_owner)?;
    Ok(secret.mode.map_or(Ok(()), check::mount_mode)?)
}

#[cfg(test)]
mod tests {
    use psi_proto::v1::PlanEvent;
    use psi_proto::v1::plan_event::Event as Planned;

    use super::*;
    use crate::client::Checked;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef012345678";

    fn secret() -> PlannedSecret {
        PlannedSecret {
            key: "A".into(),
            name: "app--A".into(),
            reference: r#"{"provider":"infisical"}"#.into(),
            source: "p:/app".into(),
            ids: vec![ID.into()],
            ..PlannedSecret::default()
        }
    }

    fn plan(change: impl Fn(&mut PlannedWorkload)) -> Result<(), InvalidMessage> {
        let mut workload = PlannedWorkload {
            name: "app".into(),
            prefix: "app--".into(),
            depends_on: vec!["network-online.target".into()],
            secrets: vec![
                secret(),
                PlannedSecret {
                    key: "tls.pem".into(),
                    name: "app--tls.pem".into(),
                    mount: true,
                    ..secret()
                },
            ],
            ..PlannedWorkload::default()
        };
        change(&mut workload);
        PlanEvent { event: Some(Planned::Workload(workload)) }.check()
    }

    /// A field of a plan that root writes into a unit or passes to podman.
    type Field = fn(&mut PlannedWorkload, &str);

    const FIELDS: [Field; 7] = [
        |workload, text| workload.name = text.into(),
        |workload, text| workload.prefix = text.into(),
        |workload, text| workload.depends_on.push(text.into()),
        |workload, text| workload.secrets[0].name = text.into(),
        |workload, text| workload.secrets[0].key = text.into(),
        |workload, text| workload.secrets[1].key = text.into(),
        |workload, text| workload.secrets[1].target = format!("{text}/"),
    ];

    #[test]
    fn check_accepts_a_plan_of_names_and_rejects_unit_lines() {
        plan(|_| {}).unwrap();
        for text in
            ["a\n[Service]\nExecStartPre=/bin/id", "a,type=mount", "../../etc/cron.d/x", "", "%h"]
        {
            for (number, field) in FIELDS.iter().enumerate() {
                let error = plan(|workload| field(workload, text)).expect_err(text);
                assert!(!error.0.contains(char::is_control), "{number}: {error}");
            }
        }
        plan(|workload| workload.secrets[0].ids.push("../x".into())).unwrap_err();
        // Each of these is a name, and another one than it has to be.
        plan(|workload| workload.prefix = "a".into()).unwrap_err();
        plan(|workload| workload.secrets[0].name = "web--A".into()).unwrap_err();
        plan(|workload| workload.secrets[1].target = "../b.key".into()).unwrap();
        for target in ["a b", "a,uid=0", "a\n[Service]", "%h", "..", "a/"] {
            plan(|workload| workload.secrets[1].target = target.into()).unwrap_err();
        }
        plan(|workload| workload.secrets[1].mode = Some(0o4755)).unwrap_err();
        plan(|workload| workload.secrets[1].uid = Some(u32::MAX)).unwrap_err();
        let document = |name: &str, reference: &str| {
            plan(|workload| {
                let (name, reference) = (name.into(), reference.into());
                workload.kube = Some(PlannedSecret { name, reference, ..PlannedSecret::default() });
            })
        };
        document("app", r#"{"provider":"psi","workload":"app"}"#).unwrap();
        document("other", r#"{"provider":"psi","workload":"app"}"#).unwrap_err();
        document("app", r#"{"provider":"psi","workload":"other"}"#).unwrap_err();
        document("app", r#"{"provider":"infisical","workload":"app"}"#).unwrap_err();
        for reference in ["hunter2", "{}", "[]", ""] {
            plan(|workload| workload.secrets[0].reference = reference.into()).unwrap_err();
        }
        // A secret that cannot be set up is still reported, on one line.
        plan(|workload| {
            workload.secrets[0].key = "a b".into();
            workload.secrets[0].error = "not a valid name of a variable".into();
        })
        .unwrap();
        plan(|workload| {
            workload.secrets[0].key = "a\nb".into();
            workload.secrets[0].error = "not a valid name of a variable".into();
        })
        .unwrap_err();
    }

    proptest! {
        #[test]
        fn accepted_names_are_one_word_of_a_unit(text in "[a-zA-Z0-9_.@%,=/\\n\\t\" \u{1b}\u{9b}-]{0,12}") {
            for field in FIELDS {
                if plan(|workload| field(workload, &text)).is_ok() {
                    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@:\\-".contains(c);
                    prop_assert!(!text.is_empty() && text.chars().all(plain), "{:?}", text);
                }
            }
        }
    }
}
