//! The parts of a Markdown document that the checks look at.

use std::path::{Path, PathBuf};

/// A document, split into what the checks look at.
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    /// The anchors of the headings, as GitHub makes them.
    pub(crate) anchors: Vec<String>,
    /// The headings, each with its level.
    pub(crate) headings: Vec<(usize, String)>,
    pub(crate) links: Vec<Link>,
    /// The lines of fenced blocks, each with its block's language.
    pub(crate) code: Vec<CodeLine>,
    /// `code spans` outside of fenced blocks.
    pub(crate) spans: Vec<Span>,
}

/// A `[text](target)`.
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// One line of a fenced block.
pub(crate) struct CodeLine {
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// One code span.
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) is_in_heading: bool,
}

impl Document {
    pub(crate) fn parse(path: &Path, text: &str) -> Self {
        let mut document = Self {
            path: path.to_owned(),
            anchors: Vec::new(),
            headings: Vec::new(),
            links: Vec::new(),
            code: Vec::new(),
            spans: Vec::new(),
        };
        let mut fence: Option<String> = None;
        for (line, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text)) {
            if let Some(language) = text.trim_start().strip_prefix("```") {
                fence = fence.is_none().then(|| language.trim().to_owned());
            } else if let Some(language) = &fence {
                let (language, text) = (language.clone(), text.trim_start().to_owned());
                document.code.push(CodeLine { line, language, text });
            } else {
                document.prose(line, text);
            }
        }
        document
    }

    fn prose(&mut self, line: usize, text: &str) {
        let mut is_in_heading = false;
        let level = text.bytes().take_while(|byte| *byte == b'#').count();
        if let Some(title) = text.get(level..).and_then(|rest| rest.strip_prefix(' '))
            && level > 0
        {
            self.headings.push((level, title.trim().to_owned()));
            self.anchors.push(anchor(title));
            is_in_heading = true;
        }
        let mut parts = text.split('`');
        let mut without_code = parts.next().unwrap_or_default().to_owned();
        while let (Some(span), after) = (parts.next(), parts.next()) {
            self.spans.push(Span { line, text: span.to_owned(), is_in_heading });
            without_code.push_str("code");
            without_code.push_str(after.unwrap_or_default());
        }
        for part in without_code.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                self.links.push(Link { line, target: target.to_owned() });
            }
        }
    }

    /// Where a line is, for a problem.
    pub(crate) fn at(&self, line: usize) -> String {
        format!(
            "{}:{line}",
            self.path.strip_prefix(crate::repository()).unwrap_or(&self.path).display()
        )
    }
}

/// GitHub's anchor of a heading: lower case, punctuation removed, blanks as hyphens.
fn anchor(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    title.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn document_parses_into_its_parts() {
    let text = "# The `key`, and more\n[a](b.md#c) and `psid check`\n   ```console\n   # psictl gc\n   ```\n`x` [d](e)\n";
    let document = Document::parse(Path::new("x.md"), text);
    assert_eq!(document.anchors, ["the-key-and-more"]);
    assert_eq!(document.headings, [(1, "The `key`, and more".to_owned())]);
    let links: Vec<_> = document.links.iter().map(|link| (link.line, &*link.target)).collect();
    assert_eq!(links, [(2, "b.md#c"), (6, "e")]);
    let spans: Vec<_> = document.spans.iter().map(|span| (span.line, &*span.text)).collect();
    assert_eq!(spans, [(1, "key"), (2, "psid check"), (6, "x")]);
    let code: Vec<_> =
        document.code.iter().map(|code| (code.line, &*code.language, &*code.text)).collect();
    assert_eq!(code, [(4, "console", "# psictl gc")]);
}
