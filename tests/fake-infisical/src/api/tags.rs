//! The tags of listings in the server's cache, by project and UTC day.
//!
//! A tag is looked up before permissions are checked, under the fingerprint of the present
//! permissions, while the check itself uses permissions that may be some seconds old. So a listing
//! that is still allowed stores its tag for an identity that has lost the permission, and every
//! conditional request after it is a 304.

use std::collections::HashMap;

use crate::clock::Millis;

const DAY: Millis = 86_400_000;

/// By project.
#[derive(Default)]
pub struct Etags {
    projects: HashMap<String, Kept>,
}

#[derive(Default)]
struct Kept {
    day: Millis,
    expires_at: Millis,
    tags: HashMap<String, String>,
}

impl Etags {
    pub fn of(&self, project: &str, query: &str, now: Millis) -> Option<&str> {
        let kept = self.projects.get(project)?;
        if kept.day != now / DAY || now >= kept.expires_at {
            return None;
        }
        kept.tags.get(query).map(String::as_str)
    }

    /// A listing was answered 200: all tags of its project live that much longer.
    pub fn keep(&mut self, project: &str, query: String, tag: String, now: Millis, ttl: Millis) {
        let kept = self.projects.entry(project.to_owned()).or_default();
        if kept.day != now / DAY || now >= kept.expires_at {
            *kept = Kept { day: now / DAY, ..Kept::default() };
        }
        kept.expires_at = now + ttl;
        kept.tags.insert(query, tag);
    }

    /// The project was written to.
    pub fn forget(&mut self, project: &str) {
        self.projects.remove(project);
    }

    pub fn clear(&mut self) {
        self.projects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_ends_by_age_day_or_write() {
        let mut etags = Etags::default();
        let keep = |etags: &mut Etags, now| etags.keep("p", "q".into(), "t".into(), now, 900);
        keep(&mut etags, 10);
        assert_eq!(etags.of("p", "q", 909), Some("t"));
        assert_eq!(etags.of("p", "other", 909), None);
        assert_eq!(etags.of("p", "q", 910), None);
        etags.keep("p", "r".into(), "u".into(), 800, 900);
        keep(&mut etags, 900);
        assert_eq!(etags.of("p", "r", 1700), Some("u"), "any listing prolongs all");
        keep(&mut etags, DAY - 1);
        assert_eq!(etags.of("p", "q", DAY), None);
        keep(&mut etags, DAY);
        etags.forget("p");
        assert_eq!(etags.of("p", "q", DAY), None);
    }
}
