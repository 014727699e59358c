//! Messages of the contract as canonical protobuf JSON.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use thiserror::Error;

use crate::access::PACKAGE;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(bytes).ok()
});

/// Why a text is not a message.
#[derive(Debug, Error)]
pub enum JsonError {
    /// The contract has no such message.
    #[error("no message {0} in the contract")]
    NoSuchMessage(String),
    /// Not JSON of this message.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// The descriptor and the generated type disagree.
    #[error("{0}")]
    Decode(#[from] prost::DecodeError),
}

/// The contract's descriptors.
pub fn descriptors() -> Option<&'static DescriptorPool> {
    POOL.as_ref()
}

/// Reads JSON of the message `name`, such as `FeeWaiverRequest`. Unknown fields are refused.
///
/// # Errors
/// When the text is not JSON of that message.
pub fn from_json<M: Message + Default>(name: &str, text: &str) -> Result<M, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor(name)?, &mut deserializer)?;
    deserializer.end()?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

/// Writes the message `name` as JSON, with the names of the contract.
///
/// # Errors
/// When the contract has no such message.
pub fn to_json<M: Message>(name: &str, message: &M) -> Result<serde_json::Value, JsonError> {
    let mut dynamic = DynamicMessage::new(descriptor(name)?);
    dynamic.merge(message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

fn descriptor(name: &str) -> Result<MessageDescriptor, JsonError> {
    descriptors()
        .and_then(|pool| pool.get_message_by_name(&format!("{PACKAGE}.{name}")))
        .ok_or_else(|| JsonError::NoSuchMessage(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto;

    #[test]
    fn a_message_reads_back_and_unknown_fields_are_refused() {
        let envelope: proto::Envelope =
            from_json("Envelope", r#"{"matter_id": "M-1", "kind": "KIND_FEE_WAIVER", "schemaVersion": 1}"#)
                .unwrap();
        assert_eq!(envelope.kind, proto::Kind::FeeWaiver as i32);
        let json = to_json("Envelope", &envelope).unwrap();
        assert_eq!(json["matter_id"], "M-1");
        assert_eq!(json["schema_version"], 1);
        let error = from_json::<proto::Envelope>("Envelope", r#"{"matter": 1}"#).err().unwrap();
        assert!(error.to_string().contains("matter"), "{error}");
    }
}
