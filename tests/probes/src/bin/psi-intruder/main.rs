//! Tries as one user to use what belongs to others at psid's socket, and counts the answers.
//!
//! The first argument is the socket, the second the number of tries of each kind. Stdin is JSON: `own` and `others`, each
//! with `workload`, `key`, `reference`, `ids`, `deleted` and `values`. Prints a line of JSON for each kind of try, and
//! exits with 1 if an answer was none of those that the kind may have, revealed something of others, or differs from
//! that for something unknown.

mod kind;
mod target;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use psi_proto::Message;
use psi_proto::v1::cache_admin_client::CacheAdminClient;
use psi_proto::v1::invalidate_request::Key as EntryKey;
use psi_proto::v1::lookup_request::Key;
use psi_proto::v1::secret_driver_client::SecretDriverClient;
use psi_proto::v1::workload_admin_client::WorkloadAdminClient;
use psi_proto::v1::{
    DeleteRequest, InvalidateRequest, ListRequest, LookupRequest, NoteNamesRequest, PlanRequest,
    RefreshRequest, RegistrationsRequest, RepointRequest, RestorableRequest, RestoreRequest,
    SecretName, StatusRequest, StoreRequest,
};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use kind::Kind::{
    CacheStatus, Delete, Invalidate, List, LookupById, LookupByName, LookupByReference, NoteName,
    Plan, Refresh, Registrations, RepointId, RepointToReference, Restorable, Restore,
    StoreReference, StoreUnderId,
};
use kind::{KINDS, Kind};
use target::Target;

/// What an answer contains, encoded, or its status.
type Answer = Result<Vec<u8>, Status>;

/// A connection of the user.
#[derive(Clone)]
struct Session {
    driver: SecretDriverClient<Channel>,
    cache: CacheAdminClient<Channel>,
    workloads: WorkloadAdminClient<Channel>,
}

impl Session {
    async fn open(socket: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).expect("a path");
        let channel = endpoint.connect().await.expect("psid");
        Self {
            driver: SecretDriverClient::new(channel.clone()),
            cache: CacheAdminClient::new(channel.clone()),
            workloads: WorkloadAdminClient::new(channel),
        }
    }

    /// Makes one try, again while psid limits the user's calls, except for refreshes: those are limited to a few.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for its turn, and nothing else runs here"
    )]
    async fn answer(&self, kind: Kind, own: &Target, target: &Target, number: usize) -> Answer {
        loop {
            match self.clone().attempt(kind, own, target, number).await {
                Err(status) if status.code() == Code::ResourceExhausted && kind != Refresh => {
                    std::thread::sleep(Duration::from_secs(1));
                }
                answer => return answer,
            }
        }
    }

    async fn attempt(self, kind: Kind, own: &Target, target: &Target, number: usize) -> Answer {
        match kind {
            LookupById => self.lookup(Key::Id(target.id(number))).await,
            LookupByName => {
                self.lookup(Key::Name(format!("{}--{}", target.workload, target.key))).await
            }
            LookupByReference => self.lookup(Key::Name(target.reference.clone())).await,
            StoreUnderId => self.store(target.id(number), "taken over").await,
            StoreReference => {
                let id = format!("{}{:05x}", &own.ids[0][..20], number + 1);
                self.store(id, &target.reference).await
            }
            RepointId => self.repoint(target.id(number), &own.reference).await,
            RepointToReference => self.repoint(own.id(0), &target.reference).await,
            Restore | Restorable | Delete | List => self.use_driver(kind, target, number).await,
            NoteName | Registrations | Plan => self.use_workloads(kind, target, number).await,
            Invalidate | CacheStatus | Refresh => self.use_cache(kind, target, number).await,
        }
    }

    async fn lookup(mut self, key: Key) -> Answer {
        encoded(self.driver.lookup(LookupRequest { key: Some(key) }).await)
    }

    async fn store(mut self, id: String, data: &str) -> Answer {
        let request = StoreRequest { id, data: data.into(), ..StoreRequest::default() };
        encoded(self.driver.store(request).await)
    }

    async fn repoint(mut self, id: String, reference: &str) -> Answer {
        let request = RepointRequest { id, reference: reference.into() };
        encoded(self.workloads.repoint(request).await)
    }

    async fn use_driver(mut self, kind: Kind, target: &Target, number: usize) -> Answer {
        let driver = &mut self.driver;
        match kind {
            Restore => encoded(driver.restore(RestoreRequest { id: target.deleted(number) }).await),
            Restorable => encoded(driver.restorable(RestorableRequest {}).await),
            Delete => {
                // By turns with force.
                let request = DeleteRequest { id: target.id(number), force: number % 2 == 1 };
                encoded(driver.delete(request).await)
            }
            _ => encoded(driver.list(ListRequest {}).await),
        }
    }

    async fn use_workloads(mut self, kind: Kind, target: &Target, number: usize) -> Answer {
        let workloads = &mut self.workloads;
        match kind {
            NoteName => {
                let name = SecretName {
                    id: target.id(number),
                    name: "renamed".into(),
                    store: "/nowhere".into(),
                };
                encoded(workloads.note_names(NoteNamesRequest { names: vec![name] }).await)
            }
            Registrations => {
                all(workloads.registrations(RegistrationsRequest::default()).await).await
            }
            _ => all(workloads.plan(PlanRequest::default()).await).await,
        }
    }

    async fn use_cache(mut self, kind: Kind, target: &Target, number: usize) -> Answer {
        let cache = &mut self.cache;
        match kind {
            Invalidate => {
                let key = Some(EntryKey::Id(target.id(number)));
                encoded(cache.invalidate(InvalidateRequest { key }).await)
            }
            CacheStatus => encoded(cache.status(StatusRequest { verify: false }).await),
            _ => all(cache.refresh(Request::new(RefreshRequest::default())).await).await,
        }
    }
}

fn encoded(answer: Result<tonic::Response<impl Message>, Status>) -> Answer {
    answer.map(|answer| answer.into_inner().encode_to_vec())
}

/// All messages of a stream.
async fn all(answer: Result<tonic::Response<Streaming<impl Message>>, Status>) -> Answer {
    let mut stream = answer?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        bytes.extend(message.encode_to_vec());
    }
    Ok(bytes)
}

/// What the tries of one kind were answered.
#[derive(Default)]
struct Count {
    /// By status.
    answers: BTreeMap<String, usize>,
    /// With something of others.
    revealing: usize,
    /// Compared with the answer for something that nobody has, and unlike it.
    compared: usize,
    distinguishable: usize,
    /// The first that was not permitted.
    wrong: Option<String>,
}

/// One user's tries at all others.
struct Tries {
    session: Session,
    own: Target,
    others: Vec<Target>,
    number: usize,
}

impl Tries {
    async fn of_kind(&self, kind: Kind) -> Count {
        let mut count = Count::default();
        for number in 0..self.number {
            let target = &self.others[number % self.others.len()];
            let round = number / self.others.len();
            let answer = self.session.answer(kind, &self.own, target, round).await;
            let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
            *count.answers.entry(format!("{code:?}")).or_default() += 1;
            if !kind.permitted().contains(&code) {
                count.wrong.get_or_insert_with(|| format!("{}: {answer:?}", target.workload));
            }
            if self.reveals(&answer) {
                count.revealing += 1;
            }
            // Once for each id of each target.
            if kind.is_compared() && round < target.ids.len() {
                count.compared += 1;
                let unknown = target.unknown();
                let other = self.session.answer(kind, &self.own, &unknown, round).await;
                if without_names(&answer, target, round) != without_names(&other, &unknown, round) {
                    count.distinguishable += 1;
                    let pair = format!("{answer:?} and, for something unknown, {other:?}");
                    count.wrong.get_or_insert(pair);
                }
            }
        }
        count
    }

    /// Whether an answer has an id or a value of others, or a status' message a value.
    fn reveals(&self, answer: &Answer) -> bool {
        let has = |bytes: &[u8], text: &str| {
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        };
        self.others.iter().any(|other| match answer {
            Ok(bytes) => other.private().any(|text| has(bytes, text)),
            Err(status) => other.values.iter().any(|value| has(status.message().as_bytes(), value)),
        })
    }
}

/// An answer without what the caller named itself.
fn without_names(
    answer: &Answer,
    target: &Target,
    round: usize,
) -> Result<Vec<u8>, (Code, String)> {
    answer.clone().map_err(|status| {
        let mut message = status.message().replace(&target.key, "KEY");
        for id in [target.id(round), target.deleted(round)] {
            message = message.replace(&id, "ID");
        }
        (status.code(), message)
    })
}

/// The user's own targets answer, so that refusals mean something.
async fn check_own(session: &Session, own: &Target) {
    for kind in [LookupById, LookupByName, LookupByReference, Restore, StoreReference, List, Plan] {
        let answer = session.answer(kind, own, own, 0).await;
        assert!(answer.is_ok(), "{kind:?} of an own secret: {answer:?}");
        let bytes = answer.unwrap_or_default();
        let contains = |text: &String| bytes.windows(text.len()).any(|at| at == text.as_bytes());
        match kind {
            LookupById | LookupByName | LookupByReference => {
                assert!(own.values.iter().any(contains), "{kind:?}: the value");
            }
            List => assert!(own.ids.iter().all(contains), "{kind:?}: the ids"),
            Plan => assert!(contains(&own.workload), "{kind:?}: the workload"),
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, socket, number] = &arguments[..] else { panic!("psi-intruder SOCKET TRIES") };
    let given: Value = serde_json::from_reader(std::io::stdin()).expect("JSON");
    let others = given["others"].as_array().expect("others");
    let tries = Tries {
        session: Session::open(socket).await,
        own: Target::of(&given["own"]),
        others: others.iter().map(Target::of).collect(),
        number: number.parse().expect("a number"),
    };
    check_own(&tries.session, &tries.own).await;
    let mut is_good = true;
    for kind in KINDS {
        let count = tries.of_kind(kind).await;
        is_good &= count.wrong.is_none() && count.revealing == 0;
        let line = json!({
            "kind": format!("{kind:?}"),
            "tries": tries.number,
            "answers": count.answers,
            "revealing": count.revealing,
            "compared": count.compared,
            "distinguishable": count.distinguishable,
            "wrong": count.wrong,
        });
        writeln!(std::io::stdout(), "{line}").expect("stdout");
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
