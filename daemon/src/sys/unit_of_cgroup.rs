//! The systemd unit of a control group, as systemd's own `sd_pid_get_unit(3)` finds it.

use psi_common::check;

/// The unit in the text of `/proc/PID/cgroup`: `web.service`, or `user@1000.service/web.service` for a unit of a
/// user's manager.
///
/// The first part of the path that is no slice is the unit: systemd makes the groups down to it, and what is below it
/// may be made, and named, by the unit's own processes.
pub(crate) fn unit_of_cgroup(text: &str) -> Option<String> {
    let [unified, named] = paths(text);
    unified.and_then(unit_of_path).or_else(|| named.and_then(unit_of_path))
}

/// Whether the process' group in the unified hierarchy alone decides the unit. Not on a host with version 1's
/// hierarchies, where all processes may be in one group of the unified one.
pub(crate) fn is_of_unified(text: &str) -> bool {
    let [unified, named] = paths(text);
    unified.is_some_and(|path| named.is_none() || unit_of_path(path).is_some())
}

/// The paths of the group in the unified hierarchy and in systemd's own one of version 1.
fn paths(text: &str) -> [Option<&str>; 2] {
    // A part that does not end with a newline was cut.
    let lines = || text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let unified = lines().find_map(|line| line.strip_prefix("0::"));
    let named = lines().find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    [unified, named]
}

fn unit_of_path(path: &str) -> Option<String> {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && !part.ends_with(".slice"));
    let unit = unit_name(parts.next()?)?;
    if !(unit.starts_with("user@") && unit.ends_with(".service")) {
        return Some(unit.to_owned());
    }
    let of_user = parts.next().and_then(unit_name);
    Some(of_user.map_or_else(|| unit.to_owned(), |of_user| format!("{unit}/{of_user}")))
}

/// The unit that a part of the path names. systemd puts `_` before a name that the kernel might use itself.
fn unit_name(part: &str) -> Option<&str> {
    let name = part.strip_prefix('_').unwrap_or(part);
    check::unit(name).ok().map(|()| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn is_unit(path: &str, unit: Option<&str>) {
        assert_eq!(unit_of_cgroup(&format!("0::{path}\n")).as_deref(), unit, "{path}");
    }

    /// The groups of podman 5.4's processes under systemd 257, as they were read in a lookup.
    #[test]
    fn unit_of_each_kind_of_podman_process_is_found() {
        let id = "5f".repeat(32);
        for (path, unit) in [
            // Quadlet, alone and in a pod.
            ("/system.slice/web.service", Some("web.service")),
            ("/system.slice/web.service/supervisor", Some("web.service")),
            ("/system.slice/system-job.slice/job@a.service", Some("job@a.service")),
            ("/system.slice/podman.service", Some("podman.service")),
            ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
                Some("user@1000.service/web.service"),
            ),
            // Rootless podman in a shell without a session.
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/podman-1351.scope",
                Some("user@1000.service/podman-1351.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                Some("user@1000.service/init.scope"),
            ),
            ("/user.slice/user-1000.slice/user@1000.service", Some("user@1000.service")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/", None),
            ("/libpod_parent/conmon", None),
            ("/docker/5f5f", None),
            ("/../../system.slice/web.service", None),
            ("/system.slice/web.service (deleted)", None),
        ] {
            is_unit(path, unit);
        }
        // A health check; the restart of a container by its policy.
        is_unit(&format!("/system.slice/{id}-6c.service"), Some(&format!("{id}-6c.service")));
        is_unit(
            &format!("/machine.slice/libpod-conmon-{id}.scope"),
            Some(&format!("libpod-conmon-{id}.scope")),
        );
        is_unit(
            &format!("/machine.slice/machine-libpod_pod_{id}.slice/libpod-{id}.scope"),
            Some(&format!("libpod-{id}.scope")),
        );
    }

    /// A delegated group may contain groups of any name.
    #[test]
    fn group_inside_a_unit_does_not_name_another_unit() {
        is_unit("/system.slice/web.service/postgres.service", Some("web.service"));
        is_unit("/system.slice/web.service/user@0.service/db.service", Some("web.service"));
        is_unit("/user.slice/session-3.scope/db.service", Some("session-3.scope"));
    }

    #[test]
    fn hybrid_hierarchies_are_read_and_a_cut_text_is_not() {
        let text = "9:pids:/system.slice\n1:name=systemd:/system.slice/web.service\n0::/\n";
        assert_eq!(unit_of_cgroup(text).as_deref(), Some("web.service"));
        assert!(!is_of_unified(text) && !is_of_unified("") && !is_of_unified("0::/"));
        for text in ["0::/\n", "1:name=systemd:/a.service\n0::/system.slice/web.service\n"] {
            assert!(is_of_unified(text), "{text}");
        }
        assert_eq!(unit_of_cgroup("0::/system.slice/web.service"), None);
        assert_eq!(unit_of_cgroup(""), None);
    }

    proptest! {
        #[test]
        fn unit_is_one_printable_word(text in "(0::|1:name=systemd:)[/a-z.@_\\\\\u{1b} -]{0,40}(\\.service|\\.scope|\\.slice)?\n") {
            if let Some(unit) = unit_of_cgroup(&text) {
                prop_assert!(!unit.is_empty() && !unit.contains(|c: char| c.is_control() || c.is_whitespace()));
            }
        }
    }
}
