//! JSON, YAML, XML and what people write.

use cluster::contract::{ClusterName, InstanceId, Role};
use primitives::blocks::{BlockHeader, SignedBlock};
use primitives::node_rpc::{HeaderJson, SignedBlockJson, block_hash_from_json, block_hash_to_json};
use primitives::rpc::{ObjectMappingResponse, decode_hex_bytes};
use primitives::{
    FarmerAppInfo, RewardSignatureResponse, RewardSigningInfo, SegmentHeader, SlotInfo, SolutionResponse,
    parse_size, ss58,
};
use provision::inventory::{Source, parse};
use provision::resolve::{Overrides, Surroundings, resolve};
use provision::topology::{cpu_list, parse_cpus, smi};
use provision::{check, supervisor, transport::http};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(json: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return false };
    let again = serde_json::to_string(&value).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<T>(&again).expect("what was written can be read"), value);
    true
}

fn read_block(json: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<SignedBlockJson>(json) else { return false };
    let Ok(block) = SignedBlock::try_from(read) else { return false };
    assert_eq!(SignedBlock::try_from(SignedBlockJson::from(&block)).as_ref(), Ok(&block));
    true
}

fn read_header(json: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<HeaderJson>(json) else { return false };
    let Ok(header) = BlockHeader::try_from(read) else { return false };
    assert_eq!(BlockHeader::try_from(HeaderJson::from(&header)).as_ref(), Ok(&header));
    true
}

fn read_hash(json: &[u8]) -> bool {
    let Ok(text) = serde_json::from_slice::<String>(json) else { return false };
    let _ = decode_hex_bytes(&text);
    let Ok(hash) = block_hash_from_json(&text) else { return false };
    assert_eq!(block_hash_from_json(&block_hash_to_json(&hash)), Ok(hash));
    true
}

/// What a node answers: the first byte is the place of its type.
pub(crate) fn node_rpc(input: &[u8]) -> bool {
    let Some((&kind, json)) = input.split_first() else { return false };
    match kind {
        b'0' => read::<FarmerAppInfo>(json),
        b'1' => read::<SlotInfo>(json),
        b'2' => read::<SolutionResponse>(json),
        b'3' => read::<RewardSigningInfo>(json),
        b'4' => read::<RewardSignatureResponse>(json),
        b'5' => read::<Vec<Option<SegmentHeader>>>(json),
        b'6' => read::<ObjectMappingResponse>(json),
        b'7' => read_block(json),
        b'8' => read_header(json),
        b'9' => read_hash(json),
        _ => false,
    }
}

/// What `nvidia-smi topo -m` says.
pub(crate) fn topology(bytes: &[u8]) -> bool {
    let Ok(rows) = smi::parse(&String::from_utf8_lossy(bytes)) else { return false };
    assert!(rows.len() <= 64);
    for row in &rows {
        assert_eq!(parse_cpus(&cpu_list(&row.cpus)), row.cpus);
    }
    let indices: BTreeSet<_> = rows.iter().map(|row| row.gpu).collect();
    assert_eq!(indices.len(), rows.len(), "a GPU has one row");
    !rows.is_empty()
}

/// An inventory, as far as it goes without a host; every finding is shown.
pub(crate) fn inventory(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let source = Source { name: "inventory.yaml".to_owned(), text: text.to_owned() };
    match parse(&source) {
        Ok(inventory) => {
            let around = Surroundings {
                home: Some(PathBuf::from("/home/farmer")),
                xdg_state_home: None,
                xdg_cache_home: None,
                inventory_directory: PathBuf::from("/home/farmer"),
            };
            let cluster = resolve(&inventory, &Overrides::default(), &around);
            for finding in check::check(&cluster) {
                assert!(!finding.render(&source).is_empty());
            }
            true
        }
        Err(findings) => {
            assert!(!findings.is_empty(), "an inventory that is refused is refused for a reason");
            for finding in findings {
                assert!(!finding.render(&source).is_empty());
            }
            false
        }
    }
}

/// What supervisord says over its socket: an HTTP answer, XML in it.
pub(crate) fn supervisor_answer(bytes: &[u8]) -> bool {
    let (response, _) = http::parse_answer(bytes);
    let body = response.as_ref().map_or(bytes, |response| &response.body);
    response.is_some() | supervisor::is_reply(&String::from_utf8_lossy(body))
}

/// Sizes, addresses and names.
pub(crate) fn written_values(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let size = parse_size(text).is_ok();
    let address = ss58::decode(text).is_ok();
    let cluster = text.parse::<ClusterName>().is_ok_and(|name| name.as_str() == text);
    let role = text.parse::<Role>().is_ok_and(|role| role.name() == text);
    let instance = text.parse::<InstanceId>().is_ok_and(|id| id.to_string().parse() == Ok(id));
    size | address | cluster | role | instance
}
