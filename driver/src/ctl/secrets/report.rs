//! The registrations as a table, and as JSON.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use psi_proto::v1::{LastUse, Registration};
use serde::Serialize;

use super::{SecretKind, Users, kind_of, owner_of};
use crate::ctl::changes::{Changes, ReportedUnit};
use crate::ctl::json;
use crate::ctl::wording::ago;

const HEADER: [&str; 8] =
    ["NAME", "KIND", "WORKLOAD", "OWNER", "FETCHED", "CHANGED", "LAST USE", "SOURCE"];

/// One registration. `None` of any field is `null`: unknown, or not applicable.
#[derive(Serialize)]
struct Secret<'a> {
    id: &'a str,
    name: Option<&'a str>,
    kind: &'static str,
    workloads: &'a [String],
    source: Option<&'a str>,
    owner: User<'a>,
    fetched_at_ms: Option<u64>,
    changed_at_ms: Option<u64>,
    last_use: Option<Used<'a>>,
    /// The units that run with an older value.
    outdated_units: Vec<&'a str>,
}

#[derive(Serialize)]
struct User<'a> {
    uid: u32,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Used<'a> {
    at_ms: u64,
    user: User<'a>,
    unit: Option<&'a str>,
}

pub(super) fn as_json(all: &[Registration], users: &Users, changes: &Changes) -> String {
    let user = |uid| User { uid, name: users.name_of(uid) };
    let units = changes.units();
    let secret = |one| secret(one, &user, &units);
    json::text(&all.iter().map(secret).collect::<Vec<_>>())
}

fn secret<'a>(
    one: &'a Registration,
    user: &impl Fn(u32) -> User<'a>,
    units: &[ReportedUnit<'a>],
) -> Secret<'a> {
    let outdated = units.iter().filter(|unit| unit.secrets.contains(&one.name));
    Secret {
        id: &one.id,
        name: text(&one.name),
        kind: kind(one),
        workloads: &one.workloads,
        source: text(&one.description),
        owner: user(owner_of(one)),
        fetched_at_ms: one.fetched_at_ms,
        changed_at_ms: one.changed_at_ms,
        last_use: one.last_use.as_ref().map(|last| Used {
            at_ms: last.at_ms,
            user: user(last.uid),
            unit: text(&last.unit),
        }),
        outdated_units: outdated.map(|unit| unit.unit).collect(),
    }
}

fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn kind(one: &Registration) -> &'static str {
    match kind_of(one) {
        SecretKind::Reference => "reference",
        SecretKind::Literal => "literal",
        SecretKind::Unusable => "unusable",
    }
}

/// The units that run with an older value of one of these secrets.
pub(super) fn outdated(all: &[Registration], changes: &Changes, now: SystemTime) -> String {
    let is_of = |unit: &ReportedUnit<'_>| all.iter().any(|one| unit.secrets.contains(&one.name));
    let units = changes.units().into_iter().filter(is_of);
    let lines = units.map(|unit| format!("OUTDATED: {}\n", unit.problem(now)));
    let unknown = changes.unknown.iter().map(|why| format!("UNKNOWN: {why}\n"));
    lines.chain(unknown).collect()
}

pub(super) fn as_text(all: &[Registration], users: &Users, now: SystemTime) -> String {
    if all.is_empty() {
        return "no secret is registered, or none that matches\n".to_owned();
    }
    let rows = all.iter().map(|one| row(one, users, now));
    let rows: Vec<[String; 8]> = std::iter::once(HEADER.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn row(one: &Registration, users: &Users, now: SystemTime) -> [String; 8] {
    let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| since(ms, now));
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let last = one.last_use.as_ref();
    [
        if one.name.is_empty() { one.id.clone() } else { one.name.clone() },
        kind(one).to_owned(),
        or_dash(&one.workloads.join(",")),
        users.shown(owner_of(one)),
        time(one.fetched_at_ms),
        time(one.changed_at_ms),
        last.map_or_else(|| "-".to_owned(), |last| used(last, users, now)),
        or_dash(&one.description),
    ]
}

fn used(last: &LastUse, users: &Users, now: SystemTime) -> String {
    let when = since(last.at_ms, now);
    let unit =
        if last.unit.is_empty() { String::new() } else { format!(" in {}", place(&last.unit)) };
    format!("{when} by {}{unit}", users.shown(last.uid))
}

fn since(ms: u64, now: SystemTime) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    ago(now.duration_since(then).unwrap_or_default())
}

/// A unit for people. Podman names its own units by the container's id of 64 digits, of which it shows 12 everywhere.
fn place(unit: &str) -> String {
    let (manager, name) =
        unit.rsplit_once('/').map_or(("", unit), |(manager, name)| (manager, name));
    let by = |text: &str, what: &str| {
        let id = text.split_at_checked(64)?.0;
        let is_id = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| format!("{what} {}", &id[..12]))
    };
    let stem = name.strip_suffix(".service").and_then(|stem| by(stem, "the health check of"));
    let scope = name.strip_prefix("libpod-conmon-").and_then(|scope| by(scope, "container"));
    match stem.or(scope) {
        Some(known) if manager.is_empty() => known,
        Some(known) => format!("{known} of {manager}"),
        None => unit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psi_proto::v1::RegistrationKind;

    const NOW_MS: u64 = 1_000_000_000;

    fn registration() -> Registration {
        Registration {
            id: "0".repeat(25),
            name: "app--A".into(),
            kind: RegistrationKind::Reference.into(),
            description: "infisical key=A".into(),
            workloads: vec!["app".into()],
            fetched_at_ms: Some(NOW_MS - 60_000),
            changed_at_ms: Some(NOW_MS - 7_200_000),
            last_use: Some(LastUse { at_ms: NOW_MS - 5_000, uid: 0, unit: "app.service".into() }),
            ..Registration::default()
        }
    }

    fn literal() -> Registration {
        let kind = RegistrationKind::Literal.into();
        Registration {
            id: "1".repeat(25),
            kind,
            owner: Some(4_294_967_294),
            ..Registration::default()
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS)
    }

    #[test]
    fn table_has_aligned_columns_and_dashes() {
        let text = as_text(&[registration(), literal()], &Users::default(), now());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        for (column, first, second) in [
            ("NAME", "app--A", "1111111111111111111111111"),
            ("KIND", "reference", "literal"),
            ("OWNER", "root", "uid 4294967294"),
            ("FETCHED", "60 s ago", "-"),
            ("CHANGED", "2 h ago", "-"),
            ("LAST USE", "5 s ago by root in app.service", "-"),
            ("SOURCE", "infisical key=A", "-"),
        ] {
            let at = lines[0].find(column).unwrap();
            assert!(lines[1][at..].starts_with(first), "{text}");
            assert!(lines[2][at..].starts_with(second), "{text}");
        }
        let none = as_text(&[], &Users::default(), now());
        assert_eq!(none, "no secret is registered, or none that matches\n");
    }

    #[test]
    fn json_has_null_for_what_is_unknown() {
        let text = as_json(&[registration(), literal()], &Users::default(), &Changes::default());
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(all[0]["name"], "app--A");
        assert_eq!(all[0]["last_use"]["user"]["name"], "root");
        assert_eq!(all[0]["last_use"]["unit"], "app.service");
        assert_eq!(all[1]["owner"]["uid"], 4_294_967_294_u32);
        for field in ["name", "source", "fetched_at_ms", "changed_at_ms", "last_use"] {
            assert!(all[1][field].is_null(), "{field}: {text}");
        }
    }

    #[test]
    fn units_of_podman_are_shown_by_their_container() {
        let id = "5f".repeat(32);
        for (unit, shown) in [
            ("web.service".to_owned(), "web.service"),
            ("user@7.service/web.service".to_owned(), "user@7.service/web.service"),
            (format!("{id}-6c12.service"), "the health check of 5f5f5f5f5f5f"),
            (format!("{id}.service"), "the health check of 5f5f5f5f5f5f"),
            (format!("libpod-conmon-{id}.scope"), "container 5f5f5f5f5f5f"),
            (
                format!("user@7.service/{id}-6c.service"),
                "the health check of 5f5f5f5f5f5f of user@7.service",
            ),
            ("5f5f.service".to_owned(), "5f5f.service"),
            ("é.service".to_owned(), "é.service"),
        ] {
            assert_eq!(place(&unit), shown);
        }
    }
}
