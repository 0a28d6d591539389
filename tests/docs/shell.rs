//! A line of shell, split into its simple commands.

/// The simple commands of a line, each as its words; comments, redirections and assignments in front of a
/// command are left out.
pub(crate) fn commands(line: &str) -> Result<Vec<Vec<String>>, String> {
    let mut commands = vec![Vec::new()];
    let mut skip_next = false;
    for token in tokens(line)? {
        match token {
            Token::Operator => commands.push(Vec::new()),
            Token::Redirection => skip_next = true,
            Token::Word(_) if skip_next => skip_next = false,
            Token::Word(word) => {
                let command: &mut Vec<String> = commands.last_mut().unwrap();
                let is_assignment = command.is_empty()
                    && word.split_once('=').is_some_and(|(name, _)| {
                        !name.is_empty()
                            && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                    });
                if !is_assignment {
                    command.push(word);
                }
            }
        }
    }
    Ok(commands.into_iter().filter(|command| !command.is_empty()).collect())
}

enum Token {
    Word(String),
    /// `|`, `||`, `&&`, `;`
    Operator,
    /// `<`, `>`, `>>`; the next word is a file.
    Redirection,
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some(next) if next == c => break,
                        Some('\\') if c == '"' => word.extend(characters.next()),
                        Some(next) => word.push(next),
                        None => return Err("a quote does not end".to_owned()),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            '#' if word.is_none() => break,
            ' ' | '\t' => tokens.extend(word.take().map(Token::Word)),
            '|' | '&' | ';' => {
                tokens.extend(word.take().map(Token::Word));
                characters.next_if_eq(&c);
                tokens.push(Token::Operator);
            }
            '<' | '>' => {
                // A number in front is a descriptor.
                let descriptor = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
                tokens.extend(word.take().filter(|word| !descriptor(word)).map(Token::Word));
                characters.next_if_eq(&c);
                tokens.push(Token::Redirection);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

#[test]
fn line_splits_into_words_like_a_shell() {
    let of = |line| commands(line).unwrap();
    assert_eq!(of("psictl gc --store '/a b'  # why"), [["psictl", "gc", "--store", "/a b"]]);
    assert_eq!(
        of("A=1 psid check 2>/dev/null && psictl hsm store x <pw.txt | sh; true"),
        [&["psid", "check"][..], &["psictl", "hsm", "store", "x"], &["sh"], &["true"]]
    );
    assert_eq!(of(r#"printf "a\"b" | cat"#), [&["printf", "a\"b"][..], &["cat"]]);
    assert!(of("# psictl").is_empty());
    assert!(commands("echo 'open").is_err());
}
