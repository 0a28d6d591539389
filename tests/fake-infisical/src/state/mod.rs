//! The server's data: identities and projects. The same types are the seed file, the running state
//! and `GET /state`, so that a state can be read, edited and restored.

pub mod cloud;
pub mod identity;
pub mod method;
pub mod permission;
pub mod project;
pub mod secret;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use cloud::Cloud;
use identity::Identity;
use project::Project;

/// Every token names an organisation, and the fake has one.
pub const ORGANISATION: &str = "0a0a0a0a-0000-4000-8000-000000000001";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct State {
    pub identities: Vec<Identity>,
    pub projects: Vec<Project>,
    pub cloud: Cloud,
}

impl State {
    /// Fills in what a seed may leave out: parent folders and creation times.
    pub fn settle(mut self, now: Millis) -> Self {
        for identity in &mut self.identities {
            identity.settle(now);
        }
        for project in &mut self.projects {
            project.settle(now);
        }
        self
    }

    pub fn project(&self, id: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.id == id)
    }

    pub fn project_mut(&mut self, id: &str) -> Option<&mut Project> {
        self.projects.iter_mut().find(|project| project.id == id)
    }

    pub fn project_by_slug(&self, slug: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.slug == slug)
    }

    pub fn identity(&self, id: &str) -> Option<&Identity> {
        self.identities.iter().find(|identity| identity.id == id)
    }

    pub fn identity_by_client(&mut self, client_id: &str) -> Option<&mut Identity> {
        self.identities.iter_mut().find(|identity| identity.client_id == client_id)
    }
}
