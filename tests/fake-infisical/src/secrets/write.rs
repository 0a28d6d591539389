//! Changes to a folder's secrets, after the checks of permission and validity.

use super::Found;
use super::view::{SecretView, Shape};
use crate::clock::Millis;
use crate::state::project::Folder;
use crate::state::secret::{Author, Metadata, Secret, Tag};
use crate::text::js_trim;

/// The fields of a write; `None` keeps the old value.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub value: Option<String>,
    pub comment: Option<String>,
    pub tags: Option<Vec<Tag>>,
    pub metadata: Option<Vec<Metadata>>,
    pub skip_multiline_encoding: Option<bool>,
    pub new_name: Option<String>,
}

/// The writer, place and time.
pub struct Writer<'a> {
    pub project: &'a str,
    pub environment: &'a str,
    pub path: &'a str,
    pub author: Author,
    pub now: Millis,
    /// A writer without the read permission gets a placeholder back
    pub may_read: bool,
}

impl Writer<'_> {
    /// A secret that is created again after its deletion has a new id and version 1.
    pub fn create(&self, folder: &mut Folder, key: &str, draft: Draft) -> SecretView {
        let value = draft.value.clone().unwrap_or_default();
        let mut secret = Secret::new(value, self.now);
        self.apply(&mut secret, draft);
        folder.touched_at = self.now;
        let view = self.view(key, &secret, None, Shape::Created);
        folder.secrets.insert(key.to_owned(), secret);
        view
    }

    /// Answers with the sent value, or else with the old one.
    pub fn update(&self, folder: &mut Folder, key: &str, draft: Draft) -> Option<SecretView> {
        let mut secret = folder.secrets.remove(key)?;
        let key = draft.new_name.clone().unwrap_or_else(|| key.to_owned());
        let echoed = draft.value.clone().unwrap_or_else(|| secret.value.clone());
        secret.revise(draft.value.clone(), self.now);
        self.apply(&mut secret, draft);
        folder.touched_at = self.now;
        let view = self.view(&key, &secret, Some(echoed), Shape::Changed);
        folder.secrets.insert(key, secret);
        Some(view)
    }

    pub fn delete(&self, folder: &mut Folder, key: &str) -> Option<SecretView> {
        let secret = folder.secrets.remove(key)?;
        folder.touched_at = self.now;
        Some(self.view(key, &secret, None, Shape::Changed))
    }

    fn apply(&self, secret: &mut Secret, draft: Draft) {
        secret.author = Some(self.author.clone());
        if let Some(comment) = draft.comment {
            secret.comment = comment;
        }
        if let Some(tags) = draft.tags {
            secret.tags = tags;
        }
        if let Some(metadata) = draft.metadata {
            secret.metadata = metadata;
        }
        if let Some(skip) = draft.skip_multiline_encoding {
            secret.skip_multiline_encoding = skip;
        }
    }

    fn view(&self, key: &str, secret: &Secret, echo: Option<String>, shape: Shape) -> SecretView {
        let hidden = shape != Shape::Created && !self.may_read;
        let mut found = Found::new(self.environment, self.path, key, secret, hidden);
        if let Some(value) = echo.filter(|_| !hidden) {
            found.value = value;
        }
        SecretView::new(self.project, &found, shape)
    }
}

/// The server's trim: no surrounding blanks, and at most one newline at the end, kept if present.
pub fn trimmed(value: &str) -> String {
    let inner = js_trim(value);
    if value.ends_with('\n') { format!("{inner}\n") } else { inner.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_trimmed_except_for_one_newline() {
        assert_eq!(trimmed("  a\n\n"), "a\n");
        assert_eq!(trimmed(" a \t"), "a");
        assert_eq!(trimmed("a\n "), "a");
        assert_eq!(trimmed("l1\nl2\n"), "l1\nl2\n");
        assert_eq!(trimmed(""), "");
        assert_eq!(trimmed("\u{feff}a\u{85}"), "a\u{85}");
    }

    #[test]
    fn versions_increase_and_restart_with_a_new_id() {
        let writer = Writer {
            project: "p",
            environment: "e",
            path: "/",
            author: Author { id: "i".to_owned(), name: "n".to_owned() },
            now: 9,
            may_read: true,
        };
        let draft = |value: &str| Draft { value: Some(value.to_owned()), ..Draft::default() };
        let mut folder = Folder::default();
        writer.create(&mut folder, "K", draft("one"));
        writer.update(&mut folder, "K", draft("two")).unwrap();
        let second = folder.secrets["K"].clone();
        assert_eq!((second.version, second.value.as_str()), (2, "two"));
        assert_eq!(second.at_version(1).unwrap().value, "one");

        writer.delete(&mut folder, "K").unwrap();
        assert!(writer.update(&mut folder, "K", draft("none")).is_none());
        writer.create(&mut folder, "K", draft("three"));
        assert_eq!(folder.secrets["K"].version, 1);
        assert_ne!(folder.secrets["K"].id, second.id);
    }
}
