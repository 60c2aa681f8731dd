//! Payloads to values and back. A payload without a codec (bytes) is decoded as requested; one
//! with a different codec is refused without trying.

use super::error::Error;
use super::incoming::{IncomingRequest, Message};
use super::request::Response;
use super::typed::decode_typed;
use crate::proto::envelope::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::invalid(format!("as JSON: {error}")))
}

pub(super) fn from_json<T: DeserializeOwned>(codec: Codec, payload: &[u8]) -> Result<T, Error> {
    check(codec, Codec::Json)?;
    serde_json::from_slice(payload).map_err(|source| Error::Payload {
        codec: Codec::Json,
        source: Box::new(source),
    })
}

pub(super) fn from_proto<T>(codec: Codec, payload: &[u8]) -> Result<T, Error>
where
    T: prost::Message + Default,
{
    check(codec, Codec::Protobuf)?;
    decode_typed(payload).map_err(|source| Error::Payload {
        codec: Codec::Protobuf,
        source: Box::new(source),
    })
}

fn check(codec: Codec, wanted: Codec) -> Result<(), Error> {
    if codec == wanted || codec == Codec::Bytes {
        return Ok(());
    }
    Err(Error::Payload {
        codec: wanted,
        source: format!("its codec says {codec:?}").into(),
    })
}

macro_rules! readable {
    ($($type:ident)+) => {$(
        impl $type {
            /// Its payload, read as JSON.
            ///
            /// # Errors
            /// `Payload`: it is something else.
            pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
                from_json(self.codec, &self.payload)
            }

            /// Its payload, read as protobuf.
            ///
            /// # Errors
            /// `Payload`: it is something else, or nests more than 100 messages.
            pub fn proto<T: prost::Message + Default>(&self) -> Result<T, Error> {
                from_proto(self.codec, &self.payload)
            }
        }
    )+};
}

readable!(Message Response IncomingRequest);

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn a_payload_is_decoded_unless_its_codec_contradicts() {
        let json = to_json(&["a", "b"]).unwrap();
        for codec in [Codec::Json, Codec::Bytes] {
            let read: Vec<String> = from_json(codec, &json).unwrap();
            assert_eq!(read, ["a", "b"]);
        }
        let error = from_json::<Vec<String>>(Codec::Protobuf, &json).unwrap_err();
        assert!(error.to_string().contains("Protobuf"), "{error}");
        assert!(!error.is_retryable());
        let error = from_json::<u8>(Codec::Json, &json).unwrap_err();
        assert!(std::error::Error::source(&error).is_some());

        let proto = "text".to_owned().encode_to_vec();
        assert_eq!(
            from_proto::<String>(Codec::Protobuf, &proto).unwrap(),
            "text"
        );
        assert!(from_proto::<String>(Codec::Json, &proto).is_err());
        assert!(from_proto::<String>(Codec::Protobuf, b"\xff").is_err());
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Node {
        #[prost(message, optional, boxed, tag = "1")]
        within: Option<Box<Node>>,
        #[prost(string, tag = "4")]
        text: String,
    }

    #[test]
    fn a_type_that_may_hold_itself_is_read_a_hundred_levels_deep_whatever_its_text_looks_like() {
        // As bytes: groups within groups.
        let text = "#".repeat(250);
        let mut node = Node {
            within: None,
            text: text.clone(),
        };
        for _ in 0..100 {
            let proto = node.encode_to_vec();
            let read: Node = from_proto(Codec::Protobuf, &proto).unwrap();
            assert_eq!(read, node);
            node = Node {
                within: Some(Box::new(node)),
                text: text.clone(),
            };
        }
        let deep = Node {
            within: Some(Box::new(node)),
            text,
        };
        let error = from_proto::<Node>(Codec::Protobuf, &deep.encode_to_vec()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("nested more than"), "{source}");
    }

    #[test]
    fn a_value_that_cannot_be_json_is_the_callers_fault() {
        let keys = std::collections::HashMap::from([([1, 2], 3)]);
        let error = to_json(&keys).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}
