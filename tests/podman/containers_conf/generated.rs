//! Random hosts: which file wins for each key, by podman and by psid.

use super::oracle::{Answer, Layout, Node, PSI, UIDS, UnpackedPodman, assert_agreement};

/// The hosts for each podman and user; `PSI_CASES` sets another number, `PSI_SEED` the first one.
const CASES: u64 = 6;
/// The places of podman's config, and some that it must not read.
const PLACES: [&str; 16] = [
    "/usr/share/containers/containers.conf",
    "/usr/share/containers/containers.conf.d/",
    "/usr/share/containers/containers.rootful.conf.d/",
    "/usr/share/containers/containers.rootless.conf.d/",
    "/usr/share/containers/containers.rootless.conf.d/1000/",
    "/etc/containers/containers.conf",
    "/etc/containers/containers.conf.d/",
    "/etc/containers/containers.rootful.conf",
    "/etc/containers/containers.rootful.conf.d/",
    "/etc/containers/containers.rootless.conf",
    "/etc/containers/containers.rootless.conf.d/",
    "/etc/containers/containers.rootless.conf.d/1000/",
    "/etc/containers/containers.rootless.conf.d/1001/",
    "~/.config/containers/containers.conf",
    "~/.config/containers/containers.conf.d/",
    "/xdg/containers/containers.conf.d/",
];
const NAMES: [&str; 7] =
    ["10-a.conf", "50-psi.conf", "60-b.conf", "99-z.conf", ".conf", "z.CONF", "z.conf.bak"];
const VERBS: [&str; 4] = ["lookup", "store", "delete", "list"];

/// Numbers that follow from a seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn is_one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// The word with some letters in upper case.
    fn in_some_case(&mut self, word: &str) -> String {
        if !self.is_one_in(3) {
            return word.to_owned();
        }
        word.chars()
            .map(|letter| if self.is_one_in(2) { letter.to_ascii_uppercase() } else { letter })
            .collect()
    }

    /// A file that sets some keys; each of its commands names the file.
    fn text(&mut self, path: &str) -> String {
        if self.is_one_in(25) {
            return self
                .one_of(&["[secrets", "[secrets]\ndriver = 1\n", "[secrets.opts]\nother = \"x\"\n"])
                .into();
        }
        let mut text = format!("[{}]\n", self.in_some_case("secrets"));
        match self.below(5) {
            0 => text += &format!("{} = \"file\"\n", self.in_some_case("driver")),
            1 | 2 => text += &format!("{} = \"shell\"\n", self.in_some_case("driver")),
            _ => {}
        }
        text += &format!("[secrets.{}]\n", self.in_some_case("opts"));
        for verb in VERBS {
            match self.below(4) {
                0 => text += &format!("{verb} = \"true #{path}\"\n"),
                1 => text += &format!("{verb} = \"exec /psi/psi-driver {verb}\"\n"),
                _ => {}
            }
        }
        // A table once only: TOML knows no second one.
        let (first, rest) = text.split_once('\n').unwrap();
        let section = first.trim_matches(['[', ']']).to_owned();
        format!("{first}\n{}", rest.replace("[secrets.", &format!("[{section}.")))
    }

    fn layout(&mut self) -> Layout {
        let mut layout = Layout::of(&[("/etc/containers/containers.conf.d/50-psi.conf", PSI)]);
        for _ in 0..=self.below(6) {
            let mut path = self.one_of(&PLACES).to_owned();
            if path.ends_with('/') {
                path += self.one_of(&NAMES);
            }
            // The home directories of the two users are named as such in what podman prints.
            let node = match self.below(16) {
                0 => Node::Link("/nowhere"),
                1 => Node::Link("/dev/null"),
                2 => Node::Link("/psi/shell"),
                3 => Node::Directory,
                _ => Node::Text(self.text(&path).into_bytes()),
            };
            layout = layout.with_node(&path, node);
        }
        if self.is_one_in(4) {
            layout = layout.with_variable("XDG_CONFIG_HOME", "/xdg");
        }
        if self.is_one_in(10) {
            layout = layout.with_variable(
                "CONTAINERS_CONF",
                self.one_of(&["/psi/shell", "/psi/file", "/nowhere"]),
            );
        }
        if self.is_one_in(6) {
            let last = self.one_of(&["/psi/shell", "/psi/file", "/nowhere", "/etc"]);
            layout = layout.with_variable("CONTAINERS_CONF_OVERRIDE", last);
        }
        layout
    }
}

#[test]
fn random_hosts_are_read_as_each_podman_reads_them() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let cases: u64 = number("PSI_CASES").unwrap_or(CASES);
    let first: u64 = number("PSI_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    let mut answers = [0; 3];
    for podman in UnpackedPodman::all() {
        for uid in UIDS {
            for seed in first..first + cases {
                println!("podman {}, uid {uid}: PSI_SEED={seed}", podman.version);
                match assert_agreement(&podman, uid, &Numbers(seed).layout()) {
                    Answer::Shell(_) => answers[0] += 1,
                    Answer::Other(_) => answers[1] += 1,
                    Answer::Refused(_) => answers[2] += 1,
                }
            }
        }
    }
    println!(
        "new secrets went to a shell driver {}, to another {}, nowhere {} times",
        answers[0], answers[1], answers[2]
    );
}
