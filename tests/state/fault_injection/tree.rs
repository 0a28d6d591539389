//! A directory tree as a value.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Paths below the directory, with their contents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tree(pub(super) BTreeMap<PathBuf, Node>);

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Directory,
    File { bytes: Vec<u8>, mode: u32, modified: SystemTime },
}

impl Tree {
    /// Reads everything below `root` except the directories in `except`.
    pub(super) fn read(root: &Path, except: &[PathBuf]) -> Self {
        let mut tree = Self(BTreeMap::new());
        tree.take(root, root, except);
        tree
    }

    fn take(&mut self, root: &Path, directory: &Path, except: &[PathBuf]) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if except.contains(&path) {
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                self.0.insert(name, Node::Directory);
                self.take(root, &path, except);
            } else {
                let node = Node::File {
                    bytes: fs::read(&path).unwrap(),
                    mode: meta.permissions().mode() & 0o777,
                    modified: meta.modified().unwrap(),
                };
                self.0.insert(name, node);
            }
        }
    }

    /// Writes everything below `root`, which may have some of the directories already.
    pub(super) fn write(&self, root: &Path) {
        for (name, node) in &self.0 {
            let path = root.join(name);
            match node {
                Node::Directory if path.is_dir() => {}
                Node::Directory => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
                }
                Node::File { bytes, mode, modified } => {
                    fs::write(&path, bytes).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
                    File::open(&path).unwrap().set_modified(*modified).unwrap();
                }
            }
        }
    }

    /// Temporary files of interrupted writes.
    pub(super) fn remnants(&self) -> String {
        let is_remnant = |path: &&PathBuf| path.extension().is_some_and(|e| e == "tmp");
        let found = self.0.keys().filter(is_remnant);
        found.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The files' names and sizes, for messages.
    pub(super) fn names(&self) -> String {
        let files = self.0.iter().filter_map(|(path, node)| match node {
            Node::Directory => None,
            Node::File { bytes, .. } => Some(format!("{} ({})", path.display(), bytes.len())),
        });
        files.collect::<Vec<_>>().join(", ")
    }
}
