//! Which hosts and programs a command is limited to: `storage-1,storages,role:plot-client,tag:rack-2,!storage-3`. Pure.
//!
//! The hosts left out stay in the cluster: what the others know of them does not change.

use crate::derive::{self, Role};
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::inventory::source::closest;
use crate::resolve::{Cluster, Host};
use std::collections::BTreeSet;

/// Most words of a limit.
const WORDS_MAX: usize = 1024;

/// What a word of a limit picks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pick {
    /// The host or the group of this name.
    Name(String),
    /// The host of this name.
    Host(String),
    /// The hosts of a group.
    Group(String),
    /// The hosts on which a role runs.
    Role(String),
    /// The hosts with a tag.
    Tag(String),
}

/// A limit as it was typed: what each word picks, and whether that is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limit(Vec<(Pick, bool)>);

impl Limit {
    /// Reads words that are parted by commas; a `!` in front leaves out what the word picks.
    ///
    /// # Errors
    /// A word is empty, or begins with a kind that there is not.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let words = texts.iter().flat_map(|text| text.split(','));
        let limit: Vec<_> = words.take(WORDS_MAX + 1).map(Self::word).collect::<Result<_>>()?;
        if limit.len() > WORDS_MAX {
            return Err(usage(
                format!("--limit has more than {WORDS_MAX} words"),
                "name a group or a tag instead",
            ));
        }
        Ok(Self(limit))
    }

    fn word(text: &str) -> Result<(Pick, bool)> {
        let word = text.trim();
        let (word, out) = word.strip_prefix('!').map_or((word, false), |rest| (rest.trim(), true));
        let pick = match word.split_once(':') {
            None => Pick::Name(word.to_string()),
            Some(("host", name)) => Pick::Host(name.to_string()),
            Some(("group", name)) => Pick::Group(name.to_string()),
            Some(("role", name)) => Pick::Role(name.to_string()),
            Some(("tag", name)) => Pick::Tag(name.to_string()),
            Some((kind, _)) => {
                let message = format!("--limit: {kind:?} picks nothing");
                return Err(usage(
                    message,
                    "write a host's or group's name, or `host:`, `group:`, `role:`, `tag:` and a name",
                ));
            }
        };
        let (Pick::Name(name) | Pick::Host(name) | Pick::Group(name) | Pick::Role(name) | Pick::Tag(name)) =
            &pick;
        if name.is_empty() {
            let hint =
                "write names parted by commas, for example --limit storage-1,role:plot-client,!storage-3";
            return Err(usage(format!("--limit: {text:?} names nothing"), hint));
        }
        Ok((pick, out))
    }

    /// The hosts that are meant, in the order of the inventory: all that a word picks, or all there are when every
    /// word leaves out, without those that are left out.
    ///
    /// # Errors
    /// A word picks nothing that there is, two things, or no host is left.
    pub fn hosts<'a>(&self, cluster: &'a Cluster) -> Result<Vec<&'a Host>> {
        let mut picked = BTreeSet::new();
        let mut left_out = BTreeSet::new();
        for (pick, out) in &self.0 {
            let names = pick.of(cluster)?;
            if *out { left_out.extend(names) } else { picked.extend(names) }
        }
        let all = self.0.iter().all(|(_, out)| *out);
        let meant = cluster.hosts.iter().filter(|host| {
            let name = host.name.value.as_str();
            (all || picked.contains(name)) && !left_out.contains(name)
        });
        let meant: Vec<_> = meant.collect();
        if meant.is_empty() && !cluster.hosts.is_empty() {
            return Err(usage("--limit leaves no host".to_string(), "leave out fewer"));
        }
        Ok(meant)
    }
}

impl Pick {
    /// Names of the hosts that it picks.
    fn of<'a>(&self, cluster: &'a Cluster) -> Result<Vec<&'a str>> {
        let hosts = |meant: &dyn Fn(&Host) -> bool| -> Vec<&'a str> {
            let meant = cluster.hosts.iter().filter(|host| meant(host));
            meant.map(|host| host.name.value.as_str()).collect()
        };
        let named = |name: &String| hosts(&|host| host.name.value == *name);
        let of_group = |name: &String| hosts(&|host| host.groups.contains(name));
        let (kind, name, found) = match self {
            Self::Name(name) => {
                let (host, group) = (named(name), of_group(name));
                if !host.is_empty() && !group.is_empty() {
                    let message = format!("--limit: {name:?} is both a host and a group");
                    return Err(usage(message, &format!("write `host:{name}` or `group:{name}`")));
                }
                ("host or group", name, [host, group].concat())
            }
            Self::Host(name) => ("host", name, named(name)),
            Self::Group(name) => ("group", name, of_group(name)),
            Self::Role(name) => (
                "role",
                name,
                hosts(&|host| {
                    let programs = programs(cluster, host);
                    programs.iter().any(|program| program.role.name() == name)
                }),
            ),
            Self::Tag(name) => ("tag", name, hosts(&|host| host.tags.contains(name))),
        };
        if found.is_empty() {
            return Err(usage(format!("--limit: no {kind} is called {name:?}"), &self.known(cluster, name)));
        }
        Ok(found)
    }

    /// What could have been meant: all names of the kind.
    fn known(&self, cluster: &Cluster, name: &str) -> String {
        let hosts = cluster.hosts.iter().map(|host| host.name.value.clone()).collect();
        let of = |words: fn(&Host) -> &[String]| -> BTreeSet<String> {
            cluster.hosts.iter().flat_map(|host| words(host).to_vec()).collect()
        };
        let (groups, tags) = (of(|host| &host.groups), of(|host| &host.tags));
        let roles = roles(cluster).map(|role| role.name().to_string()).collect();
        if matches!(self, Self::Name(_)) {
            for (kind, names) in [("role", &roles), ("tag", &tags)] {
                if names.contains(name) {
                    return format!("it is a {kind}: write `{kind}:{name}`");
                }
            }
        }
        let lists: Vec<(&str, BTreeSet<String>)> = match self {
            Self::Name(_) => vec![("hosts", hosts), ("groups", groups), ("roles", roles), ("tags", tags)],
            Self::Host(_) => vec![("hosts", hosts)],
            Self::Group(_) => vec![("groups", groups)],
            Self::Role(_) => vec![("roles", roles)],
            Self::Tag(_) => vec![("tags", tags)],
        };
        let said = lists.into_iter().map(|(kind, names)| match names.is_empty() {
            true => format!("there are no {kind}"),
            false => format!("{kind} are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
        });
        said.collect::<Vec<_>>().join("; ")
    }
}

/// The programs of a host as far as no facts are needed.
fn programs(cluster: &Cluster, host: &Host) -> Vec<derive::Program> {
    derive::programs(cluster, host, &HostFacts::default()).0
}

/// The roles that run on any host, in the order of the start.
fn roles(cluster: &Cluster) -> impl Iterator<Item = Role> {
    let programs = cluster.hosts.iter().flat_map(|host| programs(cluster, host));
    let there: BTreeSet<Role> = programs.map(|program| program.role).collect();
    there.into_iter()
}

/// Of some hosts those that have programs meant by names of roles or programs, with these programs' names; every program
/// is meant when there are no names.
///
/// # Errors
/// A name is no role's and no program's on any of these hosts.
pub fn programs_meant<'a>(
    cluster: &Cluster,
    hosts: &[&'a Host],
    names: &[String],
) -> Result<Vec<(&'a Host, Vec<String>)>> {
    let programs: Vec<_> = hosts.iter().map(|host| (*host, programs(cluster, host))).collect();
    for name in names {
        let mut all = programs.iter().flat_map(|(_, programs)| programs);
        if all.any(|program| program.is_meant(std::slice::from_ref(name))) {
            continue;
        }
        let known: Vec<_> = roles(cluster).map(Role::name).collect();
        let hint = match closest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}? Roles are {}", known.join(", ")),
            None => format!("roles are {}", known.join(", ")),
        };
        let which = if hosts.len() < cluster.hosts.len() { "any of these hosts" } else { "any host" };
        return Err(usage(format!("there is no role or program {name:?} on {which}"), &hint));
    }
    let meant = programs.into_iter().map(|(host, programs)| {
        let meant = programs.into_iter().filter(|program| program.is_meant(names));
        (host, meant.map(|program| program.name).collect::<Vec<_>>())
    });
    Ok(meant.filter(|(_, programs)| !programs.is_empty()).collect())
}

fn usage(message: String, hint: &str) -> Error {
    Error::Usage { message, hint: hint.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{self, Source};
    use crate::resolve::{Overrides, Surroundings, resolve};

    /// The guides' seven, the storage hosts in two racks.
    fn seven() -> Cluster {
        let text = include_str!("../../inventories/guide.yaml")
            .replace("storage-1: {", "storage-1: {tags: [rack-1, spare], ")
            .replace("storage-2: {", "storage-2: {tags: [rack-2], ");
        let source = Source { name: "guide.yaml".to_string(), text };
        let inventory = inventory::parse(&source).expect("a good inventory");
        resolve(&inventory, &Overrides::default(), &Surroundings::default())
    }

    fn limited(cluster: &Cluster, text: &str) -> Result<Vec<String>> {
        let hosts = Limit::parse(&[text.to_string()])?.hosts(cluster)?;
        Ok(hosts.iter().map(|host| host.name.value.clone()).collect())
    }

    #[test]
    fn hosts_groups_roles_and_tags() {
        let cluster = seven();
        for (text, expected) in [
            ("storage-1", &["storage-1"][..]),
            ("plotters, storage-2", &["plotter-1", "plotter-2", "storage-2"]),
            ("storage-2,plotters", &["plotter-1", "plotter-2", "storage-2"]),
            ("role:plot-client", &["storage-1", "storage-2"]),
            ("role:nats-server,!node-2", &["node-1", "node-3"]),
            ("tag:rack-2", &["storage-2"]),
            ("host:node-1,group:plotters,!host:plotter-2", &["node-1", "plotter-1"]),
            ("!nodes,!plotters", &["storage-1", "storage-2"]),
            ("!storages,storage-1,nodes", &["node-1", "node-2", "node-3"]),
        ] {
            assert_eq!(limited(&cluster, text).expect(text), expected, "{text}");
        }
        assert_eq!(Limit::default().hosts(&cluster).expect("all").len(), 7);
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let cluster = seven();
        let mut said = String::new();
        for text in [
            "storage-3",
            "role:plotter",
            "tag:rack-3",
            "group:rack-1",
            "host:nodes",
            "plot-client",
            "spare",
            "",
            "a,,b",
            "!",
            "rack:1",
            "role:",
            "storages,!storages",
        ] {
            let error = limited(&cluster, text).expect_err(text);
            assert_eq!(error.exit_code() as u8, 2, "{text}");
            said += &format!("--limit {text:?}\n{}\n", crate::output::error_text(&error));
        }
        insta::assert_snapshot!(said);
        let cluster = Cluster { hosts: seven().hosts.into_iter().take(1).collect(), ..seven() };
        assert!(
            limited(&cluster, "tag:x")
                .is_err_and(|error| error.hint() == Some("there are no tags".to_string()))
        );
    }

    #[test]
    fn a_name_of_two_things_is_asked_back() {
        let mut cluster = seven();
        cluster.hosts[0].name.value = "storages".to_string();
        let error = limited(&cluster, "storages").expect_err("two");
        assert!(error.hint().is_some_and(|hint| hint.contains("group:storages")), "{error}");
        assert_eq!(limited(&cluster, "host:storages").expect("one"), ["storages"]);
    }

    #[test]
    fn programs_by_role_and_by_name() {
        let cluster = seven();
        let hosts: Vec<_> = cluster.hosts.iter().collect();
        let named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_string()).collect();
            programs_meant(&cluster, &hosts, &names)
        };
        let meant = named(&["autonomys-plot-server-1", "plot-client"]).expect("known");
        let meant: Vec<_> = meant.iter().map(|(host, names)| (&*host.name.value, names.join(" "))).collect();
        let expected = [
            ("plotter-1", "autonomys-plot-server-1"),
            ("plotter-2", "autonomys-plot-server-1"),
            ("storage-1", "autonomys-plot-client"),
            ("storage-2", "autonomys-plot-client"),
        ];
        assert_eq!(meant, expected.map(|(host, names)| (host, names.to_string())));
        assert_eq!(named(&[]).expect("all").len(), 7);
        let error = named(&["plot-cleint"]).expect_err("unknown");
        assert!(error.hint().is_some_and(|hint| hint.contains("did you mean \"plot-client\"")), "{error}");
    }
}
