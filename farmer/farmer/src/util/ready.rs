//! `util ready`: what members say of themselves, and whether all is well.

use crate::cli::{NatsArguments, ReadyArguments};
use crate::roles::Error;
use crate::util::connect;
use archiving::SrsKind;
use cluster::contract::{IdentifyRequest, MemberState, MemberStatus, Role};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// How long answers are collected in one round.
const WINDOW: Duration = Duration::from_millis(700);

/// Asks the members of a role, or all, and prints what they say. Waits, up to the deadline, until all that answer are
/// ready and at least one does.
///
/// # Errors
/// When they are not, or nobody answers.
pub async fn run(nats: &NatsArguments, arguments: ReadyArguments) -> Result<(), Error> {
    let role = match arguments.role.as_str() {
        "all" => None,
        name => Some(name.parse::<Role>().map_err(|error| {
            let names = Role::ALL.map(Role::name).join(", ");
            Error::Config(format!("{error}; known are {names} and all"))
        })?),
    };
    let deadline = Instant::now() + arguments.timeout;
    let client = connect(nats).await?;
    let members = loop {
        let mut members = client.scatter(&IdentifyRequest { role }, WINDOW).await?;
        members.sort_by_key(|member| (member.role, member.instance));
        if verdict(&members, &arguments.role).is_ok() || Instant::now() + WINDOW >= deadline {
            break members;
        }
    };
    let text = if arguments.json { to_json(&members) } else { to_text(&members) };
    let printed = writeln!(std::io::stdout(), "{text}");
    printed.map_err(|error| Error::io("write to", "standard output".as_ref(), error))?;
    verdict(&members, &arguments.role).map_err(Error::Unavailable)
}

/// Whether all is well; else what is not.
fn verdict(members: &[MemberStatus], asked: &str) -> Result<(), String> {
    if members.is_empty() {
        return Err(match asked {
            "all" => "no member of the cluster answers".into(),
            role => format!("no {role} answers"),
        });
    }
    let unready = members.iter().filter(|member| member.state != MemberState::Ready);
    let unready: Vec<_> = unready.map(|member| format!("{} {}", member.role, member.instance)).collect();
    if unready.is_empty() { Ok(()) } else { Err(format!("not ready: {}", unready.join(", "))) }
}

fn state(member: &MemberStatus) -> (&'static str, Option<&str>) {
    match &member.state {
        MemberState::Ready => ("ready", None),
        MemberState::Waiting { reason } => ("waiting", Some(reason)),
        MemberState::Stopping => ("stopping", None),
    }
}

fn to_text(members: &[MemberStatus]) -> String {
    let line = |member: &MemberStatus| {
        let (state, waiting_for) = state(member);
        let waiting_for = waiting_for.map(|what| format!(" for {what}")).unwrap_or_default();
        format!(
            "{:<24} {} {} {:>7} s  {state}{waiting_for}",
            member.role.name(),
            member.instance,
            member.build,
            member.uptime_s
        )
    };
    members.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `{"version": 1, "members": […]}`; a member has the fields of `/status` and where it listens, its chain and its
/// reference string.
fn to_json(members: &[MemberStatus]) -> String {
    let member = |member: &MemberStatus| {
        let (state, waiting_for) = state(member);
        let counters: serde_json::Map<String, Value> =
            member.counters.iter().map(|counter| (counter.name.clone(), counter.value.into())).collect();
        json!({
            "role": member.role.name(),
            "instance": member.instance.to_string(),
            "version": member.build,
            "state": state,
            "waiting_for": waiting_for,
            "uptime_s": member.uptime_s,
            "address": member.address.map(|address| address.to_string()),
            "genesis": member.genesis.map(|genesis| genesis.to_string()),
            "reference_string": member.srs_digest.map(|digest| {
                SrsKind::from_digest(digest).map_or_else(|| digest.to_string(), |kind| kind.to_string())
            }),
            "counters": counters,
        })
    };
    json!({ "version": 1, "members": members.iter().map(member).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::contract::{Counter, InstanceId};

    fn member(role: Role, state: MemberState) -> MemberStatus {
        MemberStatus {
            role,
            instance: InstanceId::generate(),
            build: "0.1.0".into(),
            state,
            uptime_s: 7,
            srs_digest: Some(SrsKind::Development.digest()),
            genesis: None,
            address: None,
            counters: vec![Counter { name: "slots_seen".into(), value: 3 }],
        }
    }

    #[test]
    fn everybody_who_answers_must_be_ready_and_somebody_must_answer() {
        assert_eq!(verdict(&[], "all"), Err("no member of the cluster answers".into()));
        let ready = member(Role::Controller, MemberState::Ready);
        assert_eq!(verdict(std::slice::from_ref(&ready), "controller"), Ok(()));
        let waiting = member(Role::PlotClient, MemberState::Waiting { reason: "a controller".into() });
        let error = verdict(&[ready, waiting], "all").unwrap_err();
        assert!(error.starts_with("not ready: plot-client"), "{error}");
    }

    #[test]
    fn json_has_what_the_status_has() {
        let waiting = member(Role::PlotClient, MemberState::Waiting { reason: "a controller".into() });
        let json: Value = serde_json::from_str(&to_json(&[waiting])).unwrap();
        assert_eq!(json["version"], 1);
        let member = &json["members"][0];
        assert_eq!(member["role"], "plot-client");
        assert_eq!(member["waiting_for"], "a controller");
        assert_eq!(member["counters"]["slots_seen"], 3);
        assert!(member["reference_string"].as_str().unwrap().contains("INSECURE"));
    }
}
