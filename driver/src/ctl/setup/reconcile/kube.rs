//! What `kube = true` adds to a workload: the secret that holds all of it, and the drop-in of its kube unit.

use psi_common::Problem;
use psi_proto::v1::{PlannedSecret, PlannedWorkload};

use super::super::drop_in::{self, DropIn, Present};
use super::{Action, ActualState, Plan, Step};
use crate::ctl::podman::About;

/// The drop-in of a kube unit: the order after psid alone.
pub(in crate::ctl::setup) struct KubeDropIn {
    pub(in crate::ctl::setup) drop_in: DropIn,
    /// Empty for none.
    text: String,
}

impl KubeDropIn {
    /// That of a workload which is no longer in the config.
    pub(super) fn removed(drop_in: &DropIn) -> Self {
        Self { drop_in: drop_in.clone(), text: String::new() }
    }
}

impl ActualState {
    /// The drop-in of a workload's kube unit. One that psi wrote is removed when the workload is no longer `kube = true`.
    pub(super) fn kube_drop_in(&self, workload: &PlannedWorkload) -> Option<KubeDropIn> {
        let drop_in = self.kube_drop_ins.get(&workload.name)?.clone();
        let text = match workload.kube {
            Some(_) => drop_in::kube_text(self.is_psid_a_unit, &workload.depends_on),
            None => String::new(),
        };
        let is_ours = matches!(drop_in.present, Present::Ours(_));
        (is_ours || !text.is_empty()).then_some(KubeDropIn { drop_in, text })
    }

    /// The step of the secret that holds all of a workload. It replaces no other secret of its name.
    pub(super) fn document_step(&self, document: &PlannedSecret) -> Result<Step, Problem> {
        let step = self.step(document)?;
        if step.action != Action::Repoint {
            return Ok(Step { is_document: true, ..step });
        }
        let registration = step.id.and_then(|id| self.registered.get(&id));
        let description = registration.map_or("", |it| it.description.as_str());
        Err(Problem::new(
            format!(
                "the name {} for kube = true is taken: podman has a secret of this name ({description})",
                document.name
            ),
            format!(
                "create that under another name and remove it with `podman secret rm {}`, or rename the workload",
                document.name
            ),
        ))
    }
}

impl Plan {
    /// The drop-ins of the container and of the kube unit.
    pub(in crate::ctl::setup) fn drop_ins(&self) -> impl Iterator<Item = &DropIn> {
        [&self.drop_in].into_iter().chain(self.kube.as_ref().map(|kube| &kube.drop_in))
    }

    /// The changed drop-in of the kube unit, and its new text; empty for none.
    pub(in crate::ctl::setup) fn kube_change(&self, pruned: bool) -> Option<(&DropIn, &str)> {
        let KubeDropIn { drop_in, text } = self.kube.as_ref()?;
        let is_kept = self.is_removed && !(pruned && self.may_prune());
        let may_write = !self.blocked && !matches!(drop_in.present, Present::Foreign(_));
        (may_write && !is_kept && drop_in.text() != text).then_some((drop_in, text))
    }
}

/// The reason that `podman kube play` takes no such secret.
pub(super) fn no_documents(podman: &About) -> Option<String> {
    podman.is_before(4, 4).then(|| {
        format!(
            "kube = true has no effect with podman {}: its `podman kube play` takes no `kind: Secret` document for \
             variables, and leaves files in base64; upgrade podman to 4.4",
            podman.version
        )
    })
}
