//! What applies changed drop-ins: a quadlet's unit reads its secrets when it starts, if quadlet reads drop-ins at all.

use psi_common::{Problem, Scope};

use super::apply::Applied;
use super::reconcile::{ActualState, Plan};
use super::systemd::Reload;
use super::unit_of;
use crate::ctl::podman::About;

/// The command that restarts the units of the drop-ins that were written, or the reason that there is none.
pub(super) fn advice(found: &ActualState, plans: &[Plan], applied: &Applied) -> String {
    let is_written = |plan: &&Plan| {
        !plan.is_removed && plan.drop_ins().any(|one| applied.drop_ins.contains(&one.path))
    };
    let written: Vec<&Plan> = plans.iter().filter(is_written).collect();
    if written.is_empty() {
        return String::new();
    }
    if let Some(why) = no_drop_ins(&found.podman) {
        return format!("warning: {why}\n");
    }
    let has_unit = |plan: &&Plan| match &applied.units {
        Some(units) => units.contains(&unit_of(&plan.name)),
        None => plan.drop_ins().any(|one| one.quadlet().exists()),
    };
    let (with, without): (Vec<&Plan>, Vec<&Plan>) = written.into_iter().partition(has_unit);
    let mut text = String::new();
    if !with.is_empty() && applied.reload != Reload::NoSystemd {
        let user = if Scope::of_this_process() == Scope::System { "" } else { " --user" };
        let units = with.iter().map(|plan| unit_of(&plan.name.replace('@', "@*")));
        let units = units.collect::<Vec<_>>().join(" ");
        text += &format!("to apply the change: systemctl{user} restart {units}\n");
    }
    for plan in without {
        let quadlets = plan.drop_ins().map(|one| one.quadlet().display().to_string());
        text += &format!(
            "{} has no unit yet: its drop-in takes effect once there is {}\n",
            plan.name,
            quadlets.collect::<Vec<_>>().join(" or ")
        );
    }
    text
}

/// The reason that a drop-in has no effect with this podman.
fn no_drop_ins(podman: &About) -> Option<Problem> {
    let version = &podman.version;
    if podman.is_before(4, 4) {
        let what =
            format!("podman {version} has no quadlet, so that psi's drop-ins have no effect");
        let remedy = "name the secrets by `podman run --secret NAME`, or upgrade podman to 5.0";
        return Some(Problem::new(what, remedy));
    }
    podman.is_before(5, 0).then(|| {
        let what = format!(
            "the quadlet of podman {version} reads no drop-ins, so that psi's have no effect"
        );
        let remedy = "copy their `Secret=` lines into the quadlets, or upgrade podman to 5.0";
        Problem::new(what, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_drop_ins_follows_the_version_of_podman() {
        let about = |version: &str| About { graph_root: "/".into(), version: version.into() };
        let what = |version| no_drop_ins(&about(version)).map(|problem| problem.what);
        assert!(what("4.3.1").unwrap().contains("has no quadlet"));
        assert!(what("4.9.4").unwrap().contains("quadlet of podman 4.9.4 reads no drop-ins"));
        assert_eq!((what("5.0.0"), what("6.1.1")), (None, None));
    }
}
