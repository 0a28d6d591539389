//! A workload's quadlet drop-in, `WORKLOAD.container.d/50-psi.conf`: its secrets, and the order after psid. One with
//! `kube = true` has `WORKLOAD.kube.d/50-psi.conf` too, for the order alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use psi_proto::v1::PlannedSecret;

/// The first line of a drop-in that psi wrote. A file without it is never overwritten.
const MARK: &str =
    "# Written by `psictl setup`, which writes it anew; put your own lines into another drop-in.";
const FILE: &str = "50-psi.conf";

/// The `Secret=` lines, by podman name.
pub(in crate::ctl) type Lines = BTreeMap<String, String>;

/// The kind of quadlet that a drop-in extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum QuadletKind {
    Container,
    Kube,
}

impl QuadletKind {
    /// The end of a drop-in's directory.
    fn suffix(self) -> &'static str {
        match self {
            Self::Container => ".container.d",
            Self::Kube => ".kube.d",
        }
    }
}

/// The path of a drop-in and its present content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) struct DropIn {
    pub(in crate::ctl) path: PathBuf,
    pub(in crate::ctl) present: Present,
}

/// The file at the path of a drop-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum Present {
    Nothing,
    /// A file that psi wrote.
    Ours(String),
    /// A file that must not be overwritten, with the reason.
    Foreign(String),
}

impl DropIn {
    /// The drop-in of a workload's container.
    pub(in crate::ctl) fn of(quadlets: &Path, workload: &str) -> Self {
        Self::of_kind(QuadletKind::Container, quadlets, workload)
    }

    /// The drop-in of a workload's quadlet of a kind.
    pub(in crate::ctl) fn of_kind(kind: QuadletKind, quadlets: &Path, workload: &str) -> Self {
        let path = quadlets.join(format!("{workload}{}", kind.suffix())).join(FILE);
        let present = match fs::read_to_string(&path) {
            // A power cut can leave an empty file.
            Ok(text) if text.lines().next() == Some(MARK) || text.trim().is_empty() => {
                Present::Ours(text)
            }
            Ok(_) => Present::Foreign("it was not written by psi; remove or rename it".into()),
            Err(error) if error.kind() == ErrorKind::NotFound => Present::Nothing,
            Err(error) => Present::Foreign(format!("{error}; run it as the owner of the quadlets")),
        };
        Self { path, present }
    }

    /// Whether psi wrote a file of this text.
    pub(in crate::ctl) fn is_written_by_psi(text: &[u8]) -> bool {
        text.starts_with(MARK.as_bytes())
    }

    /// The drop-ins of containers that psi wrote, by workload.
    pub(in crate::ctl) fn all_written_by_psi(quadlets: &Path) -> BTreeMap<String, Self> {
        Self::all_of_kind(QuadletKind::Container, quadlets)
    }

    /// The drop-ins of a kind that psi wrote, by workload.
    pub(super) fn all_of_kind(kind: QuadletKind, quadlets: &Path) -> BTreeMap<String, Self> {
        let directories = fs::read_dir(quadlets).into_iter().flatten().flatten();
        let names = directories.filter_map(|directory| {
            Some(directory.file_name().to_str()?.strip_suffix(kind.suffix())?.to_owned())
        });
        let all = names.map(|name| {
            let drop_in = Self::of_kind(kind, quadlets, &name);
            (name, drop_in)
        });
        all.filter(|(_, drop_in)| matches!(drop_in.present, Present::Ours(_))).collect()
    }

    /// The quadlet that it extends, in the same directory.
    pub(in crate::ctl) fn quadlet(&self) -> PathBuf {
        // NAME.container of NAME.container.d/50-psi.conf
        self.path.parent().unwrap_or(&self.path).with_extension("")
    }

    /// The reason that it must not be overwritten.
    pub(super) fn fault(&self) -> Option<String> {
        match &self.present {
            Present::Foreign(why) => Some(format!("{}: {why}", self.path.display())),
            _ => None,
        }
    }

    /// The text of the file, if psi wrote it.
    pub(super) fn text(&self) -> &str {
        match &self.present {
            Present::Ours(text) => text,
            _ => "",
        }
    }

    /// The secrets of the file, if psi wrote it.
    pub(in crate::ctl) fn lines(&self) -> Lines {
        lines_of(self.text())
    }
}

/// The secrets of a drop-in's text.
pub(super) fn lines_of(text: &str) -> Lines {
    let secrets = text.lines().filter_map(|line| {
        let name = line.strip_prefix("Secret=")?.split(',').next()?;
        Some((name.to_owned(), line.to_owned()))
    });
    secrets.collect()
}

/// The line of a secret. Its names were checked: none has a special meaning to systemd.
pub(super) fn line(secret: &PlannedSecret) -> String {
    let PlannedSecret { name, key, mount, uid, gid, mode, target, .. } = secret;
    if !mount {
        return format!("Secret={name},type=env,target={key}");
    }
    let target = if target.is_empty() { key } else { target };
    let mut line = format!("Secret={name},type=mount,target={target}");
    for (option, id) in [("uid", uid), ("gid", gid)] {
        if let Some(id) = id {
            line.push_str(&format!(",{option}={id}"));
        }
    }
    if let Some(mode) = mode {
        line.push_str(&format!(",mode={mode:04o}"));
    }
    line
}

/// The whole text for a container.
pub(super) fn text(is_psid_a_unit: bool, depends_on: &[String], lines: &Lines) -> String {
    let mut text = format!("{MARK}\n{}[Container]\n", order(is_psid_a_unit, depends_on));
    for line in lines.values() {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The whole text for a kube unit, whose pod names its secrets itself; empty for none.
pub(super) fn kube_text(is_psid_a_unit: bool, depends_on: &[String]) -> String {
    let order = order(is_psid_a_unit, depends_on);
    if order.is_empty() { order } else { format!("{MARK}\n{order}") }
}

/// The order after psid, which quadlet does not add. A user's manager does not know the system's psid, which starts
/// before it; its own psid must not start in that one's place.
fn order(is_psid_a_unit: bool, depends_on: &[String]) -> String {
    let units = |of_psid: &[&str]| {
        let of_psid = of_psid.iter().filter(|_| is_psid_a_unit).map(|unit| (*unit).to_owned());
        of_psid.chain(depends_on.iter().cloned()).collect::<Vec<_>>().join(" ")
    };
    let (wants, after) = (units(&["psid.socket"]), units(&["psid.socket", "psid.service"]));
    if after.is_empty() { after } else { format!("[Unit]\nWants={wants}\nAfter={after}\n") }
}

/// The difference of two texts by lines, in the format of diff -u.
pub(super) fn diff(path: &Path, old: &str, new: &str) -> Vec<String> {
    if old == new {
        return Vec::new();
    }
    let path = path.display();
    let from = if old.is_empty() { "/dev/null".into() } else { path.to_string() };
    let to = if new.is_empty() { "/dev/null".into() } else { path.to_string() };
    let mut diff = vec![format!("--- {from}"), format!("+++ {to}")];
    let only_in = |text: &str, other: &str, sign: char| {
        let other: Vec<&str> = other.lines().collect();
        let lines = text.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{sign}{line}")).collect::<Vec<_>>()
    };
    diff.extend(only_in(old, new, '-'));
    diff.extend(only_in(new, old, '+'));
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, key: &str, mount: bool) -> PlannedSecret {
        PlannedSecret { name: name.into(), key: key.into(), mount, ..PlannedSecret::default() }
    }

    #[test]
    fn written_text_is_read_back() {
        let quadlets = tempfile::tempdir().unwrap();
        let drop_in = DropIn::of(quadlets.path(), "worker@");
        assert_eq!(drop_in.present, Present::Nothing);
        assert!(drop_in.path.ends_with("worker@.container.d/50-psi.conf"));
        let key = PlannedSecret {
            uid: Some(999),
            gid: Some(0),
            mode: Some(0o40),
            ..secret("worker--b.key", "b.key", true)
        };
        let secrets = [
            secret("worker--B", "B", false),
            secret("worker--a.pem", "a.pem", true),
            PlannedSecret { target: "/etc/ssl/b.key".into(), ..key },
        ];
        let lines = secrets.iter().map(|secret| (secret.name.clone(), line(secret))).collect();
        let text = text(true, &["network-online.target".into()], &lines);
        assert_eq!(
            text,
            format!(
                "{MARK}\n[Unit]\nWants=psid.socket network-online.target\n\
                 After=psid.socket psid.service network-online.target\n[Container]\n\
                 Secret=worker--B,type=env,target=B\nSecret=worker--a.pem,type=mount,target=a.pem\n\
                 Secret=worker--b.key,type=mount,target=/etc/ssl/b.key,uid=999,gid=0,mode=0040\n"
            )
        );
        let of_systems_psid = super::text(false, &[], &lines);
        assert!(of_systems_psid.starts_with(&format!("{MARK}\n[Container]\nSecret=")));
        let order = "[Unit]\nWants=psid.socket\nAfter=psid.socket psid.service\n";
        assert_eq!(kube_text(true, &[]), format!("{MARK}\n{order}"));
        assert_eq!(kube_text(false, &[]), "");
        fs::create_dir(drop_in.path.parent().unwrap()).unwrap();
        fs::write(&drop_in.path, &text).unwrap();
        let all = DropIn::all_written_by_psi(quadlets.path());
        assert_eq!(all.keys().collect::<Vec<_>>(), ["worker@"]);
        assert_eq!(all["worker@"].lines(), lines);
        fs::write(&drop_in.path, text.replacen('#', "# ", 1)).unwrap();
        assert!(DropIn::all_written_by_psi(quadlets.path()).is_empty());
        assert!(matches!(DropIn::of(quadlets.path(), "worker@").present, Present::Foreign(_)));
        fs::write(&drop_in.path, "").unwrap();
        assert!(DropIn::all_written_by_psi(quadlets.path())["worker@"].lines().is_empty());
    }

    #[test]
    fn diff_has_removed_and_added_lines() {
        let path = Path::new("/q");
        assert!(diff(path, "a\n", "a\n").is_empty());
        assert_eq!(diff(path, "a\nb\n", "a\nc\n"), ["--- /q", "+++ /q", "-b", "+c"]);
        assert_eq!(diff(path, "", "a\n"), ["--- /dev/null", "+++ /q", "+a"]);
    }
}
