//! The instructions of a lookup, by callgrind: they repeat where times do not, and have a committed
//! budget.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Bench;
use crate::Result;
use crate::fixture::{FakeInfisical, Instance, Programs, id, reference};
use crate::report::{Row, Side, Target, Unit};
use crate::repository;
use crate::stats::Samples;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let (ours, version) = count_both(&bench.programs, bench.rounds(40))?;
    rows.push(Row::median(
        "instructions of a lookup",
        Target::AtMost(budget("lookup")?, Unit::Count),
        Side::new("psi-driver lookup", Unit::Count, ours),
        Side::new("psi-driver without SECRET_ID", Unit::Count, version),
    ));
    Ok(())
}

/// Fails if a lookup takes more instructions, or psi-driver more bytes, than `budget.toml` allows.
pub fn check(target: &Path) -> Result<()> {
    let programs = Programs::below(target)?;
    let (ours, _) = count_both(&programs, 5)?;
    let (size, limit) = (std::fs::metadata(&programs.driver)?.len() as f64, budget("size")?);
    let (size_words, limit_words) = (Unit::Bytes.show(size), Unit::Bytes.show(limit));
    println!("psi-driver has {size_words}, of {limit_words}");
    if size > limit {
        return Err(format!(
            "psi-driver has {size_words}, more than the {limit_words} of tests/bench/budget.toml; \
             see what is linked in more than before"
        )
        .into());
    }
    let (taken, budget) = (ours.median(), budget("lookup")?);
    let (taken_words, budget_words) = (Unit::Count.show(taken), Unit::Count.show(budget));
    println!("a lookup takes {taken_words} instructions, of {budget_words}");
    if taken <= budget {
        return Ok(());
    }
    Err(format!(
        "a lookup takes {taken_words} instructions, more than the {budget_words} of tests/bench/budget.toml; \
         see what it does more than before, or raise the budget and say why"
    )
    .into())
}

/// A budget of the target for which psi-driver is built here.
pub fn budget(name: &str) -> Result<f64> {
    let path = repository().join("tests/bench/budget.toml");
    let budget: toml::Table = toml::from_str(&std::fs::read_to_string(&path)?)?;
    let arch = std::env::consts::ARCH;
    let value = budget.get(name).and_then(|budget| budget.get(arch)?.as_integer());
    Ok(value.ok_or_else(|| format!("{}: no [{name}] {arch}", path.display()))? as f64)
}

/// A lookup, and psi-driver's start without work.
fn count_both(programs: &Programs, rounds: usize) -> Result<(Samples, Samples)> {
    let fake = FakeInfisical::start(programs, 1, 1)?;
    let instance = Instance::of(programs, &fake, 1)?;
    let (psid, _) = instance.start()?;
    psid.refresh()?;
    crate::load::run(async {
        let connection = crate::load::Connection::open(&instance.socket()).await?;
        let store =
            crate::load::Call::store(&id(0), reference("/f0", &FakeInfisical::key(0)).as_bytes());
        connection.call(&store).await.map(|_| ())
    })?;
    let counts = |id: Option<&str>| {
        let counts: Result<Vec<f64>> =
            (0..rounds).map(|_| count(programs, &instance, id)).collect();
        counts.map(Samples::of)
    };
    Ok((counts(Some(&id(0)))?, counts(None)?))
}

/// The user-space instructions of one psi-driver.
fn count(programs: &Programs, instance: &Instance, id: Option<&str>) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(&programs.driver).arg("lookup");
    command.env_clear().envs(instance.environment()).stdin(Stdio::null());
    if let Some(id) = id {
        command.env("SECRET_ID", id);
    }
    let output = command.output().map_err(|error| format!("valgrind: {error}; install it"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() != id.is_some() {
        return Err(format!("psi-driver under callgrind: {text}").into());
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.ok_or_else(|| format!("callgrind counted nothing: {text}"))?;
    Ok(count.trim().parse()?)
}
