//! Payloads to values and back. What says nothing of its codec (bytes) is taken for what is
//! asked of it; what says that it is something else is not tried.

use super::error::Error;
use super::incoming::{IncomingRequest, Message};
use super::request::Response;
use crate::codec::{LEVELS_MAX, could_be_too_deep};
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
    let wrong = |source| Error::Payload {
        codec: Codec::Protobuf,
        source,
    };
    // A type that may hold itself is decoded by recursion: see `codec`.
    if could_be_too_deep(payload) {
        return Err(wrong(
            format!("more than {LEVELS_MAX} messages within each other").into(),
        ));
    }
    T::decode(payload).map_err(|source| wrong(Box::new(source)))
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
            /// `Payload`: it is something else, or has more than 100 messages within each other.
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
    fn a_payload_is_read_as_what_it_says_it_is_and_nothing_else() {
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
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    /// So many levels, without a recursion of our own.
    fn nested(levels: usize, value: &[u8]) -> Vec<u8> {
        let mut node = Node {
            within: None,
            value: value.to_vec(),
        }
        .encode_to_vec();
        for _ in 1..levels {
            let mut outer = vec![1 << 3 | 2];
            prost::encoding::encode_varint(node.len() as u64, &mut outer);
            outer.extend(node);
            node = outer;
        }
        node
    }

    #[test]
    fn a_type_that_may_hold_itself_is_not_followed_for_ever() {
        let long: Vec<u8> = (0..10_000u32).map(|i| (i * 7 + i / 300) as u8).collect();
        for value in [&b""[..], b"text\n\n\n", &long] {
            let node = nested(100, value);
            let mut read = &from_proto::<Node>(Codec::Protobuf, &node).unwrap();
            while let Some(within) = &read.within {
                read = within;
            }
            assert_eq!(read.value, value);
        }
        for levels in [103, 1000, 20_000] {
            let error = from_proto::<Node>(Codec::Protobuf, &nested(levels, b"")).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains("within each other"), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_json_is_the_callers_fault() {
        let keys = std::collections::HashMap::from([([1, 2], 3)]);
        let error = to_json(&keys).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}
