//! Checks what the providers answer: logs in with each identity and lists each source, for an admin's command. It
//! changes neither the cache nor a registration.

use std::collections::{BTreeMap, BTreeSet};

use psi_common::{
    CheckProblem, CheckedLogin, CheckedServer, CheckedSource, LeftOut, OnlineReport, SecretBytes,
};

use super::names;
use crate::model::clock::Now;
use crate::model::reference::Listing;
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{
    CallError, Route, Upstream, Upstreams, Workload, WorkloadSource, prefix_of,
};
use crate::provider::{CheckedIdentity, Listed, ProviderError, Source};

/// What is checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoginCheckOptions<'a> {
    /// The provider's name; none: every provider.
    pub(crate) provider: Option<&'a str>,
    /// Whether a refused login is tried once more.
    pub(crate) retry: bool,
}

/// Checks the providers that have logins.
pub(crate) async fn check_logins(
    upstreams: &Upstreams,
    options: LoginCheckOptions<'_>,
    now: Now,
) -> OnlineReport {
    let mut report = OnlineReport::default();
    for (name, upstream) in &upstreams.providers {
        if options.provider.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let check = upstream.provider.check_logins(options.retry, now).await;
        let Some(server) = check.server else { continue };
        report.servers.push(CheckedServer { provider: name.clone(), ..server });
        let projects = check.identities.iter().flat_map(|one| &one.login.projects);
        for (source, workloads) in sources(upstreams, name, projects) {
            let checked = check_source(upstream, &source, &workloads, &check.identities, now);
            let checked = CheckedSource { provider: name.clone(), ..checked.await };
            report.sources.push(checked);
        }
        let logins = check.identities.into_iter().map(|one| one.login);
        let logins = logins.map(|login| CheckedLogin { provider: name.clone(), ..login });
        report.logins.extend(logins);
    }
    report
}

/// The workloads that name a source.
type Users<'a> = Vec<(&'a str, &'a Workload)>;

/// Each source of a provider once, with its workloads; and the top directory of each project that no workload
/// names.
fn sources<'a>(
    upstreams: &'a Upstreams,
    provider: &str,
    projects: impl Iterator<Item = &'a String>,
) -> BTreeMap<Source, Users<'a>> {
    let mut all: BTreeMap<Source, Users<'a>> = BTreeMap::new();
    for (name, workload) in &upstreams.workloads {
        for source in workload.sources.iter().filter(|_| workload.provider == provider) {
            let users = all.entry(source.source.clone()).or_default();
            if users.last().is_none_or(|(last, _)| last != name) {
                users.push((name, workload));
            }
        }
    }
    let named: BTreeSet<String> = all.keys().map(|source| source.project.clone()).collect();
    for project in projects.filter(|project| !named.contains(*project)) {
        let top = Source { project: project.clone(), path: "/".into(), recursive: false };
        all.entry(top).or_default();
    }
    all
}

async fn check_source(
    upstream: &Upstream,
    source: &Source,
    users: &Users<'_>,
    identities: &[CheckedIdentity],
    now: Now,
) -> CheckedSource {
    let mut checked = CheckedSource {
        project: source.project.clone(),
        path: source.path.clone(),
        recursive: source.recursive,
        workloads: users.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ..CheckedSource::default()
    };
    let scope = match upstream.provider.scope_of(source) {
        Ok(scope) => scope,
        Err(why) => {
            checked.problem =
                Some(CheckProblem::to_correct(why.to_string(), "correct the source in the config"));
            return checked;
        }
    };
    // A login that failed is not repeated for each of its sources.
    let identity = upstream.provider.identity(&scope.namespace);
    let failed = identities.iter().find(|one| one.subject == identity);
    if let Some(problem) = failed.and_then(|one| one.login.problem.as_ref()) {
        checked.problem = Some(problem.clone());
        return checked;
    }
    let call = upstream.call_for_directory(&scope, Route::List, Caller::Admin);
    let directories = BTreeSet::new();
    let list = upstream.provider.list(source, &directories);
    match upstream.call(&call, now.advanced(), list).await {
        Ok(listed) => add_listed(&mut checked, listed, users, |error| {
            upstream.provider.explain(source, error)
        }),
        Err(error) => {
            let error = CallError::error(error);
            let problem = upstream.provider.explain(source, &error);
            if users.is_empty() && may_not_read(&error, &problem) {
                // References by hand may name directories below that it may read.
                checked.ok = true;
                checked.warnings.push(problem.problem.to_string());
            } else {
                checked.problem = Some(problem);
            }
        }
    }
    checked
}

/// Whether the identity is a member of the project and may not read the directory.
fn may_not_read(error: &ProviderError, problem: &CheckProblem) -> bool {
    matches!(error, ProviderError::Denied(_)) && problem.problem.what.contains("may not read")
}

fn add_listed(
    checked: &mut CheckedSource,
    listed: Listed,
    users: &Users<'_>,
    explain: impl Fn(&ProviderError) -> CheckProblem,
) {
    let Listed { listing, refused, incomplete, continued } = listed;
    if continued {
        let rest = "only what the last refresh did not reach was listed; run it again for the whole source";
        checked.warnings.push(rest.into());
    }
    checked.problem = incomplete.map(|error| explain(&error));
    checked.ok = checked.problem.is_none();
    let is_whole = checked.ok && refused.is_empty() && !continued;
    for (scope, error) in refused {
        let why = format!("{}: {}", scope.path, explain(&error).problem);
        checked.left_out.push(LeftOut { key: scope.path, why });
    }
    let keys = listing.found.len() + listing.denied.len() + listing.unread.len();
    checked.keys = keys as u64;
    if keys == 0 && checked.ok && checked.left_out.is_empty() && !users.is_empty() {
        checked.warnings.push(format!(
            "{}:{} has no secret; if it should have one, check the path and the identity's permissions",
            checked.project, checked.path
        ));
    }
    for (name, workload) in users {
        let own = |source: &&WorkloadSource| {
            (&source.project, &source.path, source.recursive)
                == (&checked.project, &checked.path, checked.recursive)
        };
        for source in workload.sources.iter().filter(own) {
            let of_source = OfSource { name, workload, source };
            checked.left_out.extend(of_source.unusable(&listing));
            if is_whole {
                checked.left_out.extend(of_source.missing(&listing));
            }
        }
    }
    for (key, why) in listing.denied.into_iter().chain(listing.unread) {
        checked
            .left_out
            .push(LeftOut { why: format!("{}: {why}", key.key), key: key.key.to_string() });
    }
    checked.left_out.sort_by(|a, b| a.key.cmp(&b.key));
}

/// A source of a workload.
struct OfSource<'a> {
    name: &'a str,
    workload: &'a Workload,
    source: &'a WorkloadSource,
}

impl OfSource<'_> {
    /// The keys that can be neither a variable nor a file.
    fn unusable(&self, listing: &Listing) -> Vec<LeftOut> {
        let mut all = Vec::new();
        for (key, value) in &listing.found {
            for variable in self.source.variables_of(&key.key) {
                let why = self.fault(variable, value);
                all.extend(why.map(|why| LeftOut { key: key.key.to_string(), why }));
            }
        }
        all
    }

    fn fault(&self, variable: &str, value: &SecretBytes) -> Option<String> {
        let is_file = self.workload.mount_of(variable).is_some();
        let name = format!("{}{variable}", prefix_of(self.name));
        names::key_fault(self.name, variable, &name, is_file).or_else(|| {
            let fault = names::variable_fault(variable, value).filter(|_| !is_file)?;
            Some(names::unusable_variable(self.name, variable, fault))
        })
    }

    /// The selected keys that the source does not have.
    fn missing(&self, listing: &Listing) -> Vec<LeftOut> {
        let found = listing.found.iter().map(|(key, _)| key);
        let unreadable = listing.denied.iter().chain(&listing.unread).map(|(key, _)| key);
        let present: BTreeSet<&str> = found.chain(unreadable).map(|key| &*key.key).collect();
        let selected = self.source.selected.iter().flat_map(BTreeMap::values);
        let missing: BTreeSet<&String> =
            selected.filter(|key| !present.contains(key.as_str())).collect();
        let left_out = |key: &String| LeftOut {
            key: key.clone(),
            why: names::missing_key(self.name, self.source, key),
        };
        missing.into_iter().map(left_out).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reference::{CacheKey, Namespace};
    use crate::provider::upstream::Mount;

    fn workload(sources: &[(&str, &str)], mount: &[&str]) -> Workload {
        let source = |(project, path): &(&str, &str)| Source {
            project: (*project).into(),
            path: (*path).into(),
            recursive: false,
        };
        let mount = mount.iter().map(|key| Mount { key: (*key).into(), ..Mount::default() });
        Workload {
            provider: "infisical".into(),
            mount: mount.collect(),
            sources: sources.iter().map(source).map(WorkloadSource::from).collect(),
            ..Workload::default()
        }
    }

    /// The report of a listing of `p:/`.
    fn check(listed: impl Into<Listed>, workload: &Workload) -> CheckedSource {
        let mut checked =
            CheckedSource { project: "p".into(), path: "/".into(), ..CheckedSource::default() };
        add_listed(&mut checked, listed.into(), &vec![("app", workload)], |error| {
            CheckProblem::transient(error.to_string(), "later")
        });
        checked
    }

    fn found(keys: &[(&str, &[u8])]) -> Listing {
        let found = keys.iter().map(|(key, value)| {
            let key = CacheKey::new(Namespace::new(&["r"]), "/", *key);
            (key, SecretBytes::new(value.to_vec()))
        });
        Listing { found: found.collect(), ..Listing::default() }
    }

    fn left_out(checked: &CheckedSource) -> Vec<&str> {
        checked.left_out.iter().map(|one| one.key.as_str()).collect()
    }

    #[test]
    fn sources_are_listed_once_and_projects_without_one_at_their_top() {
        let upstreams = Upstreams {
            workloads: BTreeMap::from([
                ("a".to_owned(), workload(&[("p", "/x"), ("p", "/y"), ("p", "/x")], &[])),
                ("b".to_owned(), workload(&[("p", "/x")], &[])),
            ]),
            ..Upstreams::default()
        };
        let projects = ["p".to_owned(), "q".to_owned()];
        let all = sources(&upstreams, "infisical", projects.iter());
        let all: Vec<(String, Vec<&str>)> = all
            .into_iter()
            .map(|(source, users)| {
                (source.to_string(), users.iter().map(|(name, _)| *name).collect())
            })
            .collect();
        let expected = [
            ("p:/x".to_owned(), vec!["a", "b"]),
            ("p:/y".to_owned(), vec!["a"]),
            ("q:/".to_owned(), vec![]),
        ];
        assert_eq!(all, expected);
        assert_eq!(sources(&upstreams, "other", [].iter()).len(), 0);
    }

    #[test]
    fn keys_that_no_container_can_have_are_left_out() {
        let listing =
            found(&[("GOOD", b"1"), ("NUL", b"a\0b"), ("a b", b"1"), ("tls.key", b"a\0b")]);
        let checked = check(listing, &workload(&[("p", "/")], &["tls.key"]));
        assert_eq!((checked.ok, checked.keys), (true, 4));
        assert_eq!(left_out(&checked), ["NUL", "a b"]);
        assert!(checked.left_out[0].why.contains("add \"NUL\" to mount of"), "{checked:?}");
    }

    #[test]
    fn selected_keys_that_are_missing_are_left_out() {
        let mut of_app = workload(&[("p", "/"), ("p", "/other")], &[]);
        let selected = [("URL", "U"), ("COPY", "U"), ("PW", "a b"), ("GONE", "G")];
        let selected = selected.map(|(variable, key)| (variable.to_owned(), key.to_owned()));
        of_app.sources[0].selected = Some(selected.into());
        let checked = check(found(&[("a b", b"1"), ("tls.key", b"1")]), &of_app);
        assert_eq!(left_out(&checked), ["G", "U"]);
        assert!(checked.left_out[1].why.starts_with("p:/ has no key 'U'"), "{checked:?}");
        let unread = CacheKey::new(Namespace::new(&["r"]), "/", "U");
        let listing = Listing { unread: vec![(unread, "why".into())], ..found(&[]) };
        assert_eq!(left_out(&check(listing, &of_app)), ["G", "U", "a b"]);
        let incomplete = Some(ProviderError::TimedOut("no answer".into()));
        assert_eq!(left_out(&check(Listed { incomplete, ..Listed::default() }, &of_app)), [""; 0]);
    }

    #[test]
    fn empty_directory_is_a_warning_and_an_incomplete_one_a_problem() {
        let of_app = workload(&[("p", "/")], &[]);
        let empty = check(Listed::default(), &of_app);
        assert!(empty.ok && empty.warnings[0].contains("has no secret"), "{empty:?}");
        let incomplete = Some(ProviderError::TimedOut("no answer".into()));
        let cut = check(Listed { incomplete, ..Listed::default() }, &of_app);
        assert!(!cut.ok && cut.problem.is_some() && cut.warnings.is_empty(), "{cut:?}");
    }
}
