//! The JSON Schema for editors accepts what the readers accept, and is the one that is committed.

use super::{directory, yaml_files};
use provision::inventory::tree::{self, Node, Value as Yaml};
use provision::inventory::{Source, schema};
use serde_json::{Value, json};
use std::path::Path;

/// YAML as JSON, by the core schema of YAML 1.2.
fn json_of(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Scalar { text, plain: false } => json!(text),
        Yaml::Scalar { text, plain: true } => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            _ => text
                .parse::<i64>()
                .map(Value::from)
                .or_else(|_| text.parse::<f64>().map(Value::from))
                .unwrap_or(json!(text)),
        },
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Map(entries) => entries.iter().map(|(key, value)| (key.text.clone(), json_of(value))).collect(),
    }
}

fn read(path: &Path) -> Option<Value> {
    let source = Source { name: path.display().to_string(), text: std::fs::read_to_string(path).unwrap() };
    tree::parse(&source).ok().map(|root| json_of(&root))
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

/// What is wrong with a value by the keywords that our schema uses; any other keyword is a mistake of the test.
fn mistakes(schema: &Value, root: &Value, value: &Value, place: &str) -> Vec<String> {
    let Some(keywords) = schema.as_object() else {
        return if *schema == json!(false) { vec![format!("{place} is not allowed")] } else { Vec::new() };
    };
    let mut found = Vec::new();
    for (keyword, wanted) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let target = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                found.extend(mistakes(root.pointer(target).unwrap(), root, value, place));
                true
            }
            "anyOf" => {
                wanted.as_array().unwrap().iter().any(|one| mistakes(one, root, value, place).is_empty())
            }
            "const" => wanted == value,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => match wanted {
                Value::Array(names) => names.iter().any(|name| is_of_type(value, name.as_str().unwrap())),
                name => is_of_type(value, name.as_str().unwrap()),
            },
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "minLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().unwrap())
            }
            "pattern" => value
                .as_str()
                .is_none_or(|text| regex::Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(mistakes(wanted, root, item, &format!("{place}[{index}]")));
                }
                true
            }
            "required" => value.as_object().is_none_or(|map| {
                wanted.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
            }),
            "properties" | "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    let of = known.and_then(|known| known.get(key));
                    let applies =
                        if keyword == "properties" { of } else { Some(wanted).filter(|_| of.is_none()) };
                    let place = format!("{place}.{key}");
                    found.extend(applies.into_iter().flat_map(|of| mistakes(of, root, value, &place)));
                }
                true
            }
            other => panic!("the test does not know the keyword {other}"),
        };
        if !holds {
            found.push(format!("{place} = {value}: not {keyword} {wanted}"));
        }
    }
    found
}

#[test]
fn the_schema_is_committed() {
    let path = directory().join("schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        there, text,
        "`provision schema > inventories/schema.json` (or UPDATE_GOLDEN=1) writes it anew"
    );
}

#[test]
fn every_example_follows_the_schema_and_names_it() {
    let schema = schema();
    for path in yaml_files(&directory()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "{}", path.display());
        assert_eq!(
            mistakes(&schema, &schema, &read(&path).unwrap(), ""),
            Vec::<String>::new(),
            "{}",
            path.display()
        );
    }
}

/// An editor shows what can be seen without knowing the hosts; and what is only wrong between hosts it must not refuse.
#[test]
fn the_schema_sees_wrong_keys_and_kinds_and_nothing_else() {
    let schema = schema();
    let seen = |name: &str| {
        let value = read(&directory().join("invalid").join(name).with_extension("yaml")).unwrap();
        mistakes(&schema, &schema, &value, "")
    };
    for wrong in [
        "unknown-key",
        "unknown-key-in-defaults",
        "unknown-key-in-farm",
        "unknown-key-in-unused-group",
        "not-a-port",
        "inline-secret",
        "inline-secret-in-a-map",
        "ssh-password",
        "size-unit",
        "guide-open-rpc",
        "guide-tmp-and-path",
        "nats-url",
        "node-url",
        "cpus-of-words",
        "nothing-there",
        "a-list",
        "nats-url-with-password",
    ] {
        assert_ne!(seen(wrong), Vec::<String>::new(), "{wrong}");
    }
    for allowed in [
        "duplicate-port",
        "nested-paths",
        "two-nats-servers",
        "guide-cpus-overlap",
        "guide-nats-server-twice",
        "guide-routes-of-another-network",
        "guide-controller-of-another-network",
        "groups-disagree",
        "range-counts",
        "guide-cache-of-20-gib",
        "port-offset-too-large",
        "ssh-without-address",
    ] {
        assert_eq!(seen(allowed), Vec::<String>::new(), "{allowed}");
    }
}
