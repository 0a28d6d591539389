//! A man page: the command line's own sections, and those of `contrib/man/sections/pages.toml`.

use std::fmt::Write;

use clap_mangen::Man;
use toml::{Table, Value};

const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The sections of `pages.toml`.
pub(crate) struct Sections(Table);

impl Sections {
    pub(crate) fn read() -> Self {
        let text = include_str!("../../../contrib/man/sections/pages.toml");
        Self(toml::from_str(text).unwrap())
    }

    /// The names of the pages that have sections.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &str> {
        self.0["pages"].as_table().unwrap().keys().map(String::as_str)
    }

    /// The page of a command; `commands` is the text for its subcommands.
    ///
    /// # Panics
    /// If `pages.toml` has no such page, or an entry is missing.
    pub(crate) fn page(&self, command: &clap::Command, section: &str, commands: &str) -> String {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let sections = self.0["pages"].get(&name).unwrap_or_else(|| panic!("no [pages.{name}]"));
        let source = concat!("psi ", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command.clone()).section(section).source(source).manual("psi");
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        let mut options = Vec::new();
        man.render_options_section(&mut options).unwrap();
        let mut text = String::from_utf8(page).unwrap();
        text += &description(command, sections);
        text += &String::from_utf8(options).unwrap();
        text += commands;
        text += &examples(sections);
        text += &self.files(sections);
        text += &self.exit_status(sections);
        text += &self.environment(sections);
        text += &see_also(command, &name, section, sections);
        // Each of clap's sections defines the apostrophe anew; roff is ASCII.
        format!("{APOSTROPHE}{}", text.replace(APOSTROPHE, "").replace('…', "..."))
    }

    fn files(&self, sections: &Value) -> String {
        let names = words(sections, "files").unwrap_or_else(|| vec!["socket"]);
        let mut text = String::new();
        for name in names {
            let file = self.0["files"].get(name).unwrap_or_else(|| panic!("no [files.{name}]"));
            let (path, about) = (file["path"].as_str().unwrap(), file["text"].as_str().unwrap());
            let _ = write!(text, ".TP\n.I {}\n{}\n", roff(path), roff(about));
        }
        section("FILES", &text)
    }

    fn environment(&self, sections: &Value) -> String {
        let names = words(sections, "environment").unwrap_or_else(|| vec!["PSI_SOCKET"]);
        let mut text = String::new();
        for name in names {
            let about = &self.0["environment"].get(name).unwrap_or_else(|| panic!("no {name}"));
            let _ = write!(text, ".TP\n.B {name}\n{}\n", roff(about.as_str().unwrap()));
        }
        section("ENVIRONMENT", &text)
    }

    /// The statuses that the page names, with their own or the common text, in order.
    fn exit_status(&self, sections: &Value) -> String {
        let common = self.0["statuses"].as_table().unwrap();
        let usual = words(sections, "statuses").unwrap_or_else(|| vec!["0", "2", "69", "76", "77"]);
        let mut statuses: Vec<(u8, &str)> = Vec::new();
        let own = sections.get("exit").and_then(Value::as_array).into_iter().flatten();
        for status in own {
            let status = status.as_array().unwrap();
            let code = status[0].as_str().unwrap();
            let about = status.get(1).unwrap_or_else(|| &common[code]).as_str().unwrap();
            statuses.push((code.parse().unwrap(), about));
        }
        for code in usual {
            let number = code.parse().unwrap();
            if !statuses.iter().any(|(known, _)| *known == number) {
                statuses.push((number, common[code].as_str().unwrap()));
            }
        }
        statuses.sort_unstable();
        let mut text = String::new();
        for (code, about) in statuses {
            let _ = write!(text, ".TP\n.B {code}\n{}\n", roff(about));
        }
        section("EXIT STATUS", &text)
    }
}

/// The long help without its first paragraph, which is the NAME, and the page's own paragraphs.
fn description(command: &clap::Command, sections: &Value) -> String {
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let own = words(sections, "description").unwrap_or_default();
    let mut paragraphs: Vec<String> =
        long.split("\n\n").skip(1).map(|paragraph| paragraph.replace('\n', " ")).collect();
    paragraphs.extend(own.into_iter().map(str::to_owned));
    let name = command.get_name();
    assert!(!paragraphs.is_empty(), "{name} has no description: add one to pages.toml");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    assert!(!paragraphs.contains(&about), "the description of {name} repeats its name");
    let text: String =
        paragraphs.iter().map(|paragraph| format!(".PP\n{}\n", roff(paragraph))).collect();
    section("DESCRIPTION", &text)
}

fn examples(sections: &Value) -> String {
    let mut text = String::new();
    for example in sections["examples"].as_array().unwrap() {
        let example = example.as_array().unwrap();
        let (about, command) = (example[0].as_str().unwrap(), example[1].as_str().unwrap());
        let _ = write!(text, ".PP\n{}\n.PP\n.nf\n{}\n.fi\n", roff(about), roff(command));
    }
    section("EXAMPLES", &text)
}

/// The page of the command above, those of the commands below, and the page's own.
fn see_also(command: &clap::Command, name: &str, section_of: &str, sections: &Value) -> String {
    let mut pages: Vec<String> = Vec::new();
    if let Some((above, _)) = name.rsplit_once(&format!("-{}", command.get_name()))
        && name != "psi-driver"
    {
        pages.push(format!("{above}({section_of})"));
    }
    if name.starts_with("psictl") {
        let below = command.get_subcommands().filter_map(clap::Command::get_display_name);
        pages.extend(below.map(|name| format!("{name}({section_of})")));
    }
    let own = words(sections, "see").unwrap_or_default();
    pages.extend(own.into_iter().map(str::to_owned));
    let mut known = std::collections::BTreeSet::new();
    pages.retain(|page| known.insert(page.clone()));
    let lines: Vec<String> = pages
        .iter()
        .map(|page| {
            let (name, section) = page.split_once('(').unwrap();
            format!(".BR {} ({section}", roff(name))
        })
        .collect();
    section("SEE ALSO", &format!("{}\n", lines.join(",\n")))
}

fn words<'a>(sections: &'a Value, key: &str) -> Option<Vec<&'a str>> {
    let array = sections.get(key)?.as_array().unwrap();
    Some(array.iter().map(|word| word.as_str().unwrap()).collect())
}

fn section(title: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(".SH \"{title}\"\n{text}") }
}

/// Text as roff: hyphens and backslashes are literal, and no line begins a request.
pub(crate) fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\*(Aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
