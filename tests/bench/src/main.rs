//! `make bench`: each figure that psi promises, measured in turn with its comparison in one run.
//!
//! psi-bench [--quick] [--only NAME]... [--target DIRECTORY]   the figures
//!     [--before DIRECTORY]                                    a lookup by these psid and psi-driver, beside today's
//! psi-bench budget [--target DIRECTORY]                       instructions of a lookup, against budget.toml
//! psi-bench echo SOCKET                                    the bare tonic service, as a process of its own
//! psi-bench besiege SOCKET KIND CONNECTIONS ID                hostile connections of the user that runs it

mod besiege;
mod echo;
mod figures;
mod fixture;
mod frames;
mod load;
mod plot;
mod report;
mod stats;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::json;

use figures::{Bench, FIGURES};
use fixture::Programs;
use report::Row;

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("psi-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    command: Option<String>,
    operand: Option<String>,
    quick: bool,
    only: Vec<String>,
    target: PathBuf,
    before: Option<PathBuf>,
}

fn options(args: Vec<String>) -> Result<Options> {
    let target = repository().join("target");
    let mut options = Options {
        command: None,
        operand: None,
        quick: false,
        only: Vec::new(),
        target,
        before: None,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--only" => options.only.push(value()?),
            "--target" => options.target = value()?.into(),
            "--before" => options.before = Some(value()?.into()),
            _ if options.command.is_none() => options.command = Some(arg),
            _ => options.operand = Some(arg),
        }
    }
    Ok(options)
}

fn run(args: Vec<String>) -> Result<()> {
    if let [command, socket, kind, connections, id] = &args[..]
        && command == "besiege"
    {
        return besiege::run(Path::new(socket), kind, connections, id);
    }
    let options = options(args)?;
    match (options.command.as_deref(), &options.operand) {
        (Some("echo"), Some(socket)) => echo::serve(Path::new(socket)),
        (Some("budget"), None) => figures::instructions::check(&options.target),
        (None, None) => measure(&options),
        _ => Err("usage: psi-bench [--quick] [--only NAME]... | budget | echo SOCKET".into()),
    }
}

fn measure(options: &Options) -> Result<()> {
    let programs = Programs::below(&options.target)?;
    let before = options.before.as_deref().map(|directory| programs.with(directory));
    let bench = Bench { programs, before, quick: options.quick };
    let start = Instant::now();
    let mut rows = Vec::new();
    for (name, figures) in FIGURES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        let before = rows.len();
        figures(&bench, &mut rows).map_err(|error| format!("{name}: {error}"))?;
        for row in &rows[before..] {
            println!("{}", report::line(row));
        }
    }
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    println!("{} figures, {missed} missed, in {} s", rows.len(), start.elapsed().as_secs());
    if options.only.is_empty() { publish(&rows, options) } else { Ok(()) }
}

/// The results: JSON in any case; the page and the plot beside this program after a full run.
fn publish(rows: &[Row], options: &Options) -> Result<()> {
    let (date, revision) = (output_of("date", &["-u", "+%F %H:%M UTC"]), revision());
    let about = json!({
        "date": date, "revision": revision, "quick": options.quick,
        "kernel": output_of("uname", &["-sr"]), "cores": std::thread::available_parallelism()?.get(),
    });
    let path = options.target.join("bench.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report::json(rows, &about))?)?;
    println!("{}", path.display());
    let title = format!("What psi takes of its targets ({date}, {revision})");
    let plot = plot::svg(rows, &title);
    std::fs::write(options.target.join("bench.svg"), &plot)?;
    if options.quick {
        return Ok(());
    }
    let directory = repository().join("tests/bench");
    std::fs::write(directory.join("results.svg"), plot)?;
    let page = directory.join("RESULTS.md");
    let head =
        format!("`make bench` at {revision}, {date}, {}:\n\n", output_of("uname", &["-srm"]));
    let text = between_marks(&std::fs::read_to_string(&page)?, &(head + &report::markdown(rows)))?;
    std::fs::write(&page, text)?;
    println!("{}", page.display());
    Ok(())
}

fn between_marks(page: &str, table: &str) -> Result<String> {
    const BEGIN: &str = "<!-- make bench writes from here -->\n";
    const END: &str = "<!-- to here -->\n";
    let (before, rest) = page.split_once(BEGIN).ok_or("tests/bench/RESULTS.md has no mark")?;
    let (_, after) = rest.split_once(END).ok_or("tests/bench/RESULTS.md has no mark")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn revision() -> String {
    let repository = repository();
    let git =
        |args: &[&str]| output_of("git", &[&["-C", &repository.to_string_lossy()], args].concat());
    let changed = if git(&["status", "--porcelain", "--", "driver", "daemon", "common", "proto"])
        .is_empty()
    {
        ""
    } else {
        ", changed"
    };
    git(&["rev-parse", "--short", "HEAD"]) + changed
}

fn output_of(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().into(),
    )
}

/// The repository.
pub fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}
