//! A disk that loses power: changes without an fsync may be lost.
//!
//! The model is stricter than common file systems. A file's bytes and date are on the disk once it
//! was fsynced; before, the old bytes, the new ones or a part of the new ones may be. A name is on
//! the disk once its directory was fsynced; before, any of the directory's changes may be missing,
//! but none that precedes a present one. A rename between two directories is one change, in both or
//! in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::trace::Call;
use super::tree::{Node, Tree};

/// A disk with a write cache.
pub(super) struct Disk {
    files: Vec<File>,
    /// The names as running programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// The names without the changes below.
    durable: BTreeMap<PathBuf, usize>,
    /// Changes of names, in order, that no fsync has made durable.
    pending: Vec<Change>,
}

/// A file's inode as programs see it and as the disk has it; directories have none.
#[derive(Clone)]
struct File {
    seen: Node,
    durable: Node,
}

#[derive(Clone)]
struct Change {
    removes: Option<PathBuf>,
    adds: Option<(PathBuf, usize)>,
}

/// The bytes of a file without an fsync after the power cut.
#[derive(Clone, Copy)]
enum Fate {
    Old,
    Torn,
    New,
}

impl Disk {
    /// A disk with everything in `tree` on it.
    pub(super) fn new(tree: &Tree) -> Self {
        let mut disk = Self {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
        };
        for (path, node) in &tree.0 {
            let file = disk.add(node.clone());
            disk.names.insert(path.clone(), file);
        }
        disk.durable = disk.names.clone();
        disk
    }

    fn add(&mut self, node: Node) -> usize {
        self.files.push(File { seen: node.clone(), durable: node });
        self.files.len() - 1
    }

    /// Applies a call.
    pub(super) fn follow(&mut self, call: &Call) {
        if !call.ok {
            return;
        }
        let path = call.path.clone();
        match call.name.as_str() {
            "mkdir" => self.make(path, Node::Directory),
            "create" => {
                self.make(path, Node::File { bytes: Vec::new(), mode: 0o600, modified: now() });
            }
            "write" => self.write(&path, call.other.parse().unwrap(), &call.data),
            "date" => self.date(&path, call.other.parse().unwrap()),
            "fsync" => self.sync(&path),
            "sync" => self.sync_all(),
            "unlink" => self.change(Some(path), None),
            "rename" => {
                let file = self.names[&path];
                self.change(Some(path), Some((call.other.clone().into(), file)));
            }
            "link" => self.change(None, Some((call.other.clone().into(), self.names[&path]))),
            "chmod" | "chown" => {}
            _ => panic!("{call}: not in this model"),
        }
    }

    fn make(&mut self, path: PathBuf, node: Node) {
        let file = self.add(node);
        self.change(None, Some((path, file)));
    }

    fn write(&mut self, path: &Path, offset: usize, data: &[u8]) {
        let Node::File { bytes, modified, .. } = &mut self.files[self.names[path]].seen else {
            panic!("a write into the directory {}", path.display());
        };
        bytes.resize(bytes.len().max(offset + data.len()), 0);
        bytes[offset..offset + data.len()].copy_from_slice(data);
        *modified = now();
    }

    fn date(&mut self, path: &Path, seconds: u64) {
        if let Node::File { modified, .. } = &mut self.files[self.names[path]].seen {
            *modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        }
    }

    fn change(&mut self, removes: Option<PathBuf>, adds: Option<(PathBuf, usize)>) {
        let change = Change { removes, adds };
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn sync(&mut self, path: &Path) {
        let file = self.names.get(path).copied();
        if let Some(File { seen: Node::File { .. }, .. }) = file.map(|file| &self.files[file]) {
            let file = &mut self.files[file.unwrap()];
            file.durable = file.seen.clone();
            return;
        }
        let mut durable = BTreeSet::<usize>::new();
        for (at, change) in self.pending.iter().enumerate().rev() {
            let needed = durable.iter().any(|later| self.pending[*later].follows(change));
            if needed || change.directories().any(|directory| directory == path) {
                durable.insert(at);
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for (at, change) in pending.into_iter().enumerate() {
            match durable.contains(&at) {
                true => change.apply(&mut self.durable),
                false => self.pending.push(change),
            }
        }
    }

    fn sync_all(&mut self) {
        for file in &mut self.files {
            file.durable = file.seen.clone();
        }
        self.durable = self.names.clone();
        self.pending.clear();
    }

    /// Every state of the disk that a power cut may leave now.
    pub(super) fn after_power_cut(&self) -> BTreeSet<Tree> {
        assert!(self.pending.len() <= 12, "{} changes without an fsync", self.pending.len());
        let mut states = BTreeSet::new();
        for chosen in 0..1_usize << self.pending.len() {
            let there = |at: usize| chosen >> at & 1 == 1;
            let changes = || self.pending.iter().enumerate();
            let gap = changes().any(|(at, change)| {
                there(at)
                    && changes()
                        .take(at)
                        .any(|(before, earlier)| !there(before) && change.follows(earlier))
            });
            if gap {
                continue;
            }
            let mut names = self.durable.clone();
            for (_, change) in changes().filter(|(at, _)| there(*at)) {
                change.apply(&mut names);
            }
            for fate in [Fate::Old, Fate::Torn, Fate::New] {
                states.insert(self.tree(&names, fate));
            }
        }
        states
    }

    fn tree(&self, names: &BTreeMap<PathBuf, usize>, fate: Fate) -> Tree {
        let is_directory = |path: &Path| {
            path.as_os_str().is_empty()
                || names.get(path).is_some_and(|file| self.files[*file].seen == Node::Directory)
        };
        let reachable = |path: &Path| path.ancestors().skip(1).all(is_directory);
        let there = names.iter().filter(|(path, _)| reachable(path));
        Tree(there.map(|(path, file)| (path.clone(), self.files[*file].after(fate))).collect())
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let (Some(from), Some((to, _))) = (&self.removes, &self.adds) {
            // A renamed directory includes its contents.
            let below = |path: &Path| match path.strip_prefix(from) {
                Ok(rest) if path != from => Some(to.join(rest)),
                _ => None,
            };
            let moved = names.iter().filter_map(|(path, file)| Some((below(path)?, *file)));
            let moved: Vec<_> = moved.collect();
            names.extend(moved);
        }
        if let Some(path) = &self.removes {
            names.retain(|name, _| !name.starts_with(path));
        }
        if let Some((path, file)) = &self.adds {
            names.insert(path.clone(), *file);
        }
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        let added = self.adds.as_ref().map(|(path, _)| path);
        self.removes.iter().chain(added).filter_map(|path| path.parent())
    }

    /// Whether it cannot be on the disk without `earlier`.
    fn follows(&self, earlier: &Self) -> bool {
        self.directories().any(|directory| earlier.directories().any(|other| other == directory))
    }
}

impl File {
    fn after(&self, fate: Fate) -> Node {
        let (Node::File { bytes: old, .. }, Node::File { bytes, mode, modified }) =
            (&self.durable, &self.seen)
        else {
            return Node::Directory;
        };
        match fate {
            Fate::New => self.seen.clone(),
            Fate::Torn if old != bytes => {
                let bytes = bytes[..bytes.len() / 2].to_vec();
                Node::File { bytes, mode: *mode, modified: *modified }
            }
            Fate::Old | Fate::Torn => self.durable.clone(),
        }
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}
