//! Reward signatures of `farming/rpc_types.json`; the rest of that file is checked where its types are.

use farming::identity::{REWARD_SIGNING_CONTEXT, is_reward_signature_valid};
use primitives::{PublicKey, RewardSignatureResponse};
use schnorrkel::{ExpansionMode, MiniSecretKey};
use vectors::Hex;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    reward_signature_response: Case,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    expansion: String,
    json: RewardSignatureResponse,
    mini_secret_key: Hex,
    signer_public_key: PublicKey,
    signing_context: String,
}

#[test]
fn vectors_reward_signature() {
    let case = vectors::load::<File>("farming/rpc_types.json").reward_signature_response;
    assert_eq!(case.expansion, "Ed25519");
    assert_eq!(case.signing_context.as_bytes(), REWARD_SIGNING_CONTEXT);
    let mini_secret = MiniSecretKey::from_bytes(&case.mini_secret_key).unwrap();
    let keypair = mini_secret.expand_to_keypair(ExpansionMode::Ed25519);
    assert_eq!(PublicKey(keypair.public.to_bytes()), case.signer_public_key);
    let signature = case.json.signature.unwrap();
    assert!(is_reward_signature_valid(&case.json.hash, &signature, &case.signer_public_key));
    let mut damaged = signature;
    damaged.0[40] ^= 1;
    assert!(!is_reward_signature_valid(&case.json.hash, &damaged, &case.signer_public_key));
}
