//! Each rule of podman's by itself.

use super::oracle::{Answer, Layout, Node, PSI, UIDS, USER, UnpackedPodman, assert_agreement};

const DROP_IN: &str = "/etc/containers/containers.conf.d/50-psi.conf";
const LATE: &str = "/etc/containers/containers.conf.d/60-late.conf";
const FILE: &str = "[secrets]\ndriver = \"file\"\n";

fn psi() -> Layout {
    Layout::of(&[(DROP_IN, PSI)])
}

/// Asserts that every podman and psid agree, for both users, and that `expected` says what podman answers.
#[track_caller]
fn assert_all_agree(layout: &Layout, expected: impl Fn(&UnpackedPodman, u32) -> Answer) {
    for podman in UnpackedPodman::all() {
        for uid in UIDS {
            let answer = assert_agreement(&podman, uid, layout);
            let version = &podman.version;
            assert_eq!(
                answer.kind(),
                expected(&podman, uid),
                "podman {version}, uid {uid}: {answer:?}"
            );
        }
    }
}

fn file() -> Answer {
    Answer::Other("file".into())
}

fn refused() -> Answer {
    Answer::Refused(String::new())
}

/// `yes` if the condition holds, else psi.
fn psi_unless(condition: bool, yes: Answer) -> Answer {
    if condition { yes } else { Answer::psi() }
}

#[test]
fn drop_in_of_psi_is_read_by_each_podman() {
    let versions: Vec<String> =
        UnpackedPodman::all().into_iter().map(|podman| podman.version).collect();
    println!("asked podman {}", versions.join(", "));
    assert_all_agree(&psi(), |_, _| Answer::psi());
    assert_all_agree(&Layout::default(), |_, _| file());
}

#[test]
fn keys_are_matched_without_case_except_in_opts() {
    for text in ["[Secrets]\nDRIVER = \"file\"\n", "[\"\\u017fecrets\"]\ndriver = \"file\"\n"] {
        assert_all_agree(&psi().with(LATE, text), |_, _| file());
    }
    let other = "[SECRETS.Opts]\nlookup = \"true #other\"\n";
    let is_other =
        |_: &UnpackedPodman, _| Answer::Shell([("lookup".to_owned(), "other".to_owned())].into());
    for podman in UnpackedPodman::all() {
        let (of_podman, _) = podman.ask(0, &psi().with(LATE, other));
        assert_eq!(of_podman, is_other(&podman, 0));
    }
    assert_all_agree(&psi().with(LATE, "[secrets.opts]\nLOOKUP = \"x\"\n"), |_, _| refused());
}

#[test]
fn values_that_podman_refuses_are_found() {
    for text in [
        "[secrets]\ndriver = 5\n",
        "[secrets]\ndriver = \"\"\n",
        "[secrets]\ndriver = \"vault\"\n",
        "[secrets]\ndriver = \"Shell\"\n",
        "secrets = \"file\"\n",
        "[[secrets]]\ndriver = \"file\"\n",
        "[secrets.opts]\nlist = 1\n",
        "[secrets.opts]\nlookup = \"\"\n",
        "[secrets.opts]\npath = \"/x\"\n",
        "[secrets\n",
        "# \0\n",
    ] {
        assert_all_agree(&psi().with(LATE, text), |_, _| refused());
    }
    assert_all_agree(&psi().with(LATE, b"# \xe4\n"), |_, _| refused());
    // Podman ignores it.
    assert_all_agree(&psi().with(LATE, "[secrets]\nopts = \"x\"\n"), |_, _| Answer::psi());
    // The parser of podman 4.3 refuses a byte-order mark, which psid does not know.
    let with_bom = psi().with(LATE, "\u{feff}[secrets]\ndriver = \"file\"\n");
    for podman in UnpackedPodman::all().iter().filter(|podman| podman.is_at_least(5, 0)) {
        assert_eq!(assert_agreement(podman, 0, &with_bom), file());
    }
}

#[test]
fn links_and_directories_among_the_drop_ins_are_read_as_podman_does() {
    let link = |target| psi().with_node(LATE, Node::Link(target));
    assert_all_agree(&link("/psi/file"), |_, _| file());
    assert_all_agree(&link("/dev/null"), |_, _| Answer::psi());
    assert_all_agree(&link("/etc"), |_, _| refused());
    assert_all_agree(&link("/nowhere"), |podman, _| {
        psi_unless(!podman.is_at_least(5, 0), refused())
    });
    assert_all_agree(&psi().with(&format!("{LATE}/10.conf"), FILE), |_, _| Answer::psi());
    // Psi's own, as a link.
    let linked = Layout::default().with_node(DROP_IN, Node::Link("/psi/shell"));
    assert_all_agree(&linked, |_, _| Answer::psi());
    let directory = Layout::of(&[("/etc/d/50-psi.conf", PSI)])
        .with_node("/etc/containers/containers.conf.d", Node::Link("/etc/d"));
    assert_all_agree(
        &directory,
        |podman, _| {
            if podman.is_at_least(5, 7) { Answer::psi() } else { file() }
        },
    );
    let no_directory = Layout::of(&[
        ("/etc/containers/containers.conf", PSI),
        ("/etc/containers/containers.conf.d", ""),
    ]);
    assert_all_agree(&no_directory, |podman, _| psi_unless(podman.is_at_least(5, 7), refused()));
}

#[test]
fn names_of_drop_ins_end_in_conf() {
    let directory = "/etc/containers/containers.conf.d";
    let early = Layout::of(&[(&format!("{directory}/-psi.conf"), PSI)]);
    let with = |name: &str| early.clone().with(&format!("{directory}/{name}"), FILE);
    for name in ["x.CONF", "x.conf~", "x.conf.rpmsave", "conf"] {
        assert_all_agree(&with(name), |_, _| Answer::psi());
    }
    assert_all_agree(&with(".conf"), |_, _| file());
}

#[test]
fn main_files_that_are_links_or_directories_are_read_as_podman_does() {
    let main = "/etc/containers/containers.conf";
    assert_all_agree(&Layout::default().with_node(main, Node::Link("/psi/shell")), |_, _| {
        Answer::psi()
    });
    assert_all_agree(&psi().with_node(main, Node::Directory), |_, _| refused());
    let broken = psi()
        .with_node(main, Node::Link("/nowhere"))
        .with("/usr/share/containers/containers.conf", FILE);
    assert_all_agree(&broken, |_, _| Answer::psi());
}

#[test]
fn directories_of_podman_6_are_read_by_it_alone() {
    for (path, of_root, of_user) in [
        ("/etc/containers/containers.rootful.conf.d/60.conf", Some((6, 0)), None),
        ("/etc/containers/containers.rootless.conf.d/60.conf", None, Some((5, 7))),
        ("/etc/containers/containers.rootless.conf.d/1000/60.conf", None, Some((5, 7))),
        ("/etc/containers/containers.rootless.conf.d/1001/60.conf", None, None),
        ("/usr/share/containers/containers.conf.d/60.conf", Some((6, 0)), Some((6, 0))),
        ("/usr/share/containers/containers.rootful.conf.d/60.conf", Some((6, 0)), None),
        ("/usr/share/containers/containers.rootless.conf.d/1000/60.conf", None, Some((6, 0))),
    ] {
        assert_all_agree(&psi().with(path, FILE), |podman, uid| {
            let since = if uid == USER { of_user } else { of_root };
            psi_unless(since.is_some_and(|(major, minor)| podman.is_at_least(major, minor)), file())
        });
    }
    let main = psi().with("/etc/containers/containers.rootless.conf", FILE);
    assert_all_agree(&main, |podman, uid| {
        let is_read = uid == USER && podman.is_at_least(5, 7) && !podman.is_at_least(6, 0);
        psi_unless(is_read, file())
    });
}

#[test]
fn a_drop_in_shadows_one_of_the_same_name_since_podman_6() {
    let vendor = "/usr/share/containers/containers.conf.d/60-late.conf";
    let masked = psi().with(vendor, FILE);
    for node in [Node::Link("/dev/null"), Node::Link("/nowhere")] {
        let is_link_broken = matches!(node, Node::Link("/nowhere"));
        assert_all_agree(&masked.clone().with_node(LATE, node), |podman, _| {
            psi_unless(is_link_broken && !podman.is_at_least(5, 0), refused())
        });
    }
    assert_all_agree(&masked.with_node(LATE, Node::Directory), |podman, _| {
        psi_unless(podman.is_at_least(6, 0), file())
    });
}

#[test]
fn user_s_own_files_are_read_in_the_order_of_the_version() {
    let reads_own = |podman: &UnpackedPodman, uid| uid == USER || podman.is_at_least(5, 0);
    let main = psi().with("~/.config/containers/containers.conf", FILE);
    assert_all_agree(&main, |podman, uid| {
        psi_unless(reads_own(podman, uid) && !podman.is_at_least(6, 0), file())
    });
    let early = psi().with("~/.config/containers/containers.conf.d/10.conf", FILE);
    assert_all_agree(&early, |podman, uid| {
        psi_unless(reads_own(podman, uid) && !podman.is_at_least(6, 0), file())
    });
    let xdg = psi().with("/xdg/containers/containers.conf.d/60.conf", FILE);
    assert_all_agree(&xdg.with_variable("XDG_CONFIG_HOME", "/xdg"), |podman, uid| {
        psi_unless(reads_own(podman, uid), file())
    });
    let without_home = early.with_variable("HOME", "");
    assert_all_agree(&without_home, |podman, uid| {
        psi_unless(reads_own(podman, uid) && !podman.is_at_least(6, 0), file())
    });
}

#[test]
fn variables_replace_and_override_the_files() {
    let only = Layout::of(&[(LATE, FILE)]).with_variable("CONTAINERS_CONF", "/psi/shell");
    assert_all_agree(&only, |_, _| Answer::psi());
    let missing = psi().with_variable("CONTAINERS_CONF", "/nowhere");
    assert_all_agree(&missing, |_, _| refused());
    let last = only.with_variable("CONTAINERS_CONF_OVERRIDE", "/psi/file");
    assert_all_agree(&last, |podman, _| psi_unless(podman.is_at_least(4, 5), file()));
    let missing = psi().with_variable("CONTAINERS_CONF_OVERRIDE", "/nowhere");
    assert_all_agree(&missing, |podman, _| {
        let may_be_missing = podman.is_at_least(5, 7) && !podman.is_at_least(6, 0);
        psi_unless(podman.is_at_least(4, 5) && !may_be_missing, refused())
    });
    let directory = psi().with_variable("CONTAINERS_CONF_OVERRIDE", "/etc");
    assert_all_agree(&directory, |podman, _| psi_unless(podman.is_at_least(4, 5), refused()));
}
