//! Payloads by their types: JSON by serde, protobuf by prost. Each says by its codec what it is.

use super::client::Client;
use super::serve::OpenRequest;
use crate::client::error::Error;
use crate::client::payload::{from_json, from_proto, to_json};
use crate::client::publish::Publish;
use crate::client::request::Request;
use crate::proto::envelope::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Client {
    /// Sends a request in JSON and decodes the answer from JSON.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
    /// # let server = ringmail::Server::builder().config(config).start()?;
    /// # let client = ringmail::Client::connect(&server.address().to_string()).await?;
    /// let days: Vec<u8> = client.request_json("$sys/echo", &[1, 2, 3]).await?;
    /// assert_eq!(days, [1, 2, 3]);
    /// # client.close().await?;
    /// # server.drain();
    /// # server.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Invalid` for what cannot be JSON, `Payload` if the answer is something else, and as
    /// [`Client::request`].
    pub async fn request_json<Q, A>(&self, service: &str, question: &Q) -> Result<A, Error>
    where
        Q: Serialize + ?Sized,
        A: DeserializeOwned,
    {
        let payload = to_json(question)?;
        let request = Request::new(service).payload(&payload).codec(Codec::Json);
        let response = self.request_with(&request).await?;
        from_json(response.codec, &response.payload)
    }

    /// Sends a request in protobuf and decodes the answer from protobuf.
    ///
    /// # Errors
    /// `Payload` if the answer is something else, and as [`Client::request`].
    pub async fn request_proto<Q, A>(&self, service: &str, question: &Q) -> Result<A, Error>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let payload = question.encode_to_vec();
        let request = Request::new(service)
            .payload(&payload)
            .codec(Codec::Protobuf);
        let response = self.request_with(&request).await?;
        from_proto(response.codec, &response.payload)
    }

    /// Publishes as JSON, unconfirmed.
    ///
    /// # Errors
    /// `Invalid` for what cannot be JSON, and as [`Client::publish`].
    pub async fn publish_json<T>(&self, topic: &str, message: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        let payload = to_json(message)?;
        let publish = Publish::new(topic).payload(&payload).codec(Codec::Json);
        self.publish_with(&publish).await
    }

    /// Publishes as JSON, and waits for the confirmation.
    ///
    /// # Errors
    /// `Invalid` for what cannot be JSON, and as [`Client::publish_confirmed`].
    pub async fn publish_confirmed_json<T>(&self, topic: &str, message: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        let payload = to_json(message)?;
        let publish = Publish::new(topic).payload(&payload).codec(Codec::Json);
        self.publish_with(&publish.confirm(true)).await
    }

    /// Publishes as protobuf, unconfirmed.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish_proto<T>(&self, topic: &str, message: &T) -> Result<(), Error>
    where
        T: prost::Message,
    {
        let payload = message.encode_to_vec();
        let publish = Publish::new(topic).payload(&payload).codec(Codec::Protobuf);
        self.publish_with(&publish).await
    }

    /// Publishes as protobuf, and waits for the confirmation.
    ///
    /// # Errors
    /// As [`Client::publish_confirmed`].
    pub async fn publish_confirmed_proto<T>(&self, topic: &str, message: &T) -> Result<(), Error>
    where
        T: prost::Message,
    {
        let payload = message.encode_to_vec();
        let publish = Publish::new(topic).payload(&payload).codec(Codec::Protobuf);
        self.publish_with(&publish.confirm(true)).await
    }
}

impl OpenRequest {
    /// Answers it in JSON.
    ///
    /// # Errors
    /// `Invalid` for what cannot be JSON, and as [`OpenRequest::respond`].
    pub fn respond_json<A: Serialize + ?Sized>(self, answer: &A) -> Result<(), Error> {
        let payload = to_json(answer)?;
        self.respond_with(Codec::Json, payload)
    }

    /// Answers it in protobuf.
    ///
    /// # Errors
    /// As [`OpenRequest::respond`].
    pub fn respond_proto<A: prost::Message>(self, answer: &A) -> Result<(), Error> {
        self.respond_with(Codec::Protobuf, answer.encode_to_vec())
    }
}
