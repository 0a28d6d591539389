//! The Rust sources: their texts, tests and types.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

/// A source file's path and text.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Every source file below these directories.
pub(crate) fn below(directories: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    for directory in directories {
        visit(&crate::repository().join(directory), &mut sources);
    }
    sources
}

fn visit(directory: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            visit(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source { text: crate::read(&path), path });
        }
    }
}

/// The string literals of a source, in macros too; comments are none.
pub(crate) fn texts(source: &str) -> Vec<String> {
    let mut texts = Vec::new();
    walk(&TokenStream::from_str(source).unwrap(), &mut |tokens| {
        if let [TokenTree::Literal(literal), ..] = tokens {
            texts.extend(unquoted(&literal.to_string()));
        }
    });
    texts
}

/// Calls `look` with each token and the ones behind it, in every group but those of doc comments.
fn walk(stream: &TokenStream, look: &mut dyn FnMut(&[TokenTree])) {
    let tokens: Vec<TokenTree> = stream.clone().into_iter().collect();
    for (index, tree) in tokens.iter().enumerate() {
        look(&tokens[index..]);
        if let TokenTree::Group(group) = tree
            && !is_word(group.stream().into_iter().next().as_ref(), &["doc"])
        {
            walk(&group.stream(), look);
        }
    }
}

fn is_word(tree: Option<&TokenTree>, words: &[&str]) -> bool {
    matches!(tree, Some(TokenTree::Ident(ident)) if words.iter().any(|word| ident == word))
}

/// The content of a string literal with its escapes of line ends, quotes and backslashes undone.
fn unquoted(literal: &str) -> Option<String> {
    let content = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut characters = content.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match characters.next() {
            Some('\n') => while characters.next_if(|c| c.is_whitespace()).is_some() {},
            Some('n') => text.push('\n'),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Some(text)
}

/// The names of the types and traits that a source defines.
pub(crate) fn types(source: &str) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    walk(&TokenStream::from_str(source).unwrap(), &mut |tokens| {
        if let [keyword, TokenTree::Ident(name), ..] = tokens
            && is_word(Some(keyword), &["struct", "enum", "trait", "type"])
        {
            types.insert(name.to_string());
        }
    });
    types
}

/// The names of the functions behind an attribute that ends in `test`, in `proptest!` too.
pub(crate) fn tests(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    walk(&TokenStream::from_str(source).unwrap(), &mut |tokens| match tokens {
        [TokenTree::Punct(hash), TokenTree::Group(group), ..] if hash.as_char() == '#' => {
            let path = group.stream().into_iter().take_while(|tree| match tree {
                TokenTree::Ident(_) => true,
                TokenTree::Punct(punct) => punct.as_char() == ':',
                _ => false,
            });
            is_test |= is_word(path.last().as_ref(), &["test"]);
        }
        [keyword, TokenTree::Ident(name), ..]
            if is_word(Some(keyword), &["fn"]) && std::mem::take(&mut is_test) =>
        {
            tests.insert(name.to_string());
        }
        _ => {}
    });
    tests
}

#[test]
fn source_parses_into_strings_tests_and_types() {
    let source = r#"
        pub(crate) struct One;
        enum Two {}
        /// A test.
        #[tokio::test(start_paused = true)]
        #[expect(clippy::disallowed_methods, reason = "x")]
        async fn it_holds() { tracing::warn!("a {b} \"c\" \
            d"); }
        fn helper() {}
        #[test]
        fn another() {}
    "#;
    assert_eq!(types(source), ["One", "Two"].map(str::to_owned).into());
    assert_eq!(tests(source), ["another", "it_holds"].map(str::to_owned).into());
    assert!(texts(source).contains(&"a {b} \"c\" d".to_owned()), "{:?}", texts(source));
}
