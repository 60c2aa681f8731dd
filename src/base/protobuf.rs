//! Protobuf's wire format: keys, varints, and length-delimited fields.
//!
//! A [`Reader`] has the bytes of one message and never reads beyond them, whatever the lengths
//! inside say: so the message itself bounds the nesting.

/// How deep messages may nest, as in Google's libraries.
pub const LEVELS_MAX: usize = 100;

pub const FIELD_NUMBER_MAX: u32 = (1 << 29) - 1;

/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    Varint,
    Fixed64,
    Delimited,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends in the middle of a value")]
    Truncated,
    #[error("a number takes more than ten bytes")]
    VarintTooLong,
    #[error("this byte is not a valid field tag")]
    Key,
    #[error("a group ends without a start, or starts without an end")]
    Group,
    #[error("nested more than {LEVELS_MAX} levels deep")]
    TooDeep,
}

/// The remaining bytes of a message.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn len(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        match self.rest.len() < VARINT_BYTES_MAX {
            true => Err(Malformed::Truncated),
            false => Err(Malformed::VarintTooLong),
        }
    }

    /// A field's number and what follows.
    #[inline]
    pub fn key(&mut self) -> Result<(u32, WireType), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::Key)?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(Malformed::Key),
        };
        match key >> 3 {
            0 => Err(Malformed::Key),
            number => Ok((number, wire_type)),
        }
    }

    fn fixed<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*value)
    }

    pub fn fixed32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// A length and that many bytes.
    #[inline]
    pub fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        let (value, rest) = (self.rest.split_at_checked(length)).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    /// Skips the value of a field, which may nest this deep.
    pub fn skip(
        &mut self,
        number: u32,
        wire_type: WireType,
        levels: usize,
    ) -> Result<(), Malformed> {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Fixed32 => self.fixed32().map(drop),
            WireType::Delimited => self.delimited().map(drop),
            WireType::EndGroup => Err(Malformed::Group),
            WireType::StartGroup => {
                let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
                loop {
                    if self.is_empty() {
                        return Err(Malformed::Group);
                    }
                    match self.key()? {
                        (ended, WireType::EndGroup) if ended == number => return Ok(()),
                        (inner, wire_type) => self.skip(inner, wire_type, levels)?,
                    }
                }
            }
        }
    }
}

/// Decodes ZigZag: 0, 1, 2, 3, … stand for 0, −1, 1, −2, …
pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_zigzag(value: i64, out: &mut Vec<u8>) {
    put_varint((value << 1 ^ value >> 63) as u64, out);
}

pub fn put_key(number: u32, wire_type: WireType, out: &mut Vec<u8>) {
    let wire_type = match wire_type {
        WireType::Varint => 0,
        WireType::Fixed64 => 1,
        WireType::Delimited => 2,
        WireType::StartGroup => 3,
        WireType::EndGroup => 4,
        WireType::Fixed32 => 5,
    };
    put_varint(u64::from(number << 3 | wire_type), out);
}

/// Inserts the length before the bytes of `out` from `start` on.
pub fn put_length(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    put_varint((end - start) as u64, out);
    let length_bytes = out.len() - end;
    // Moving short ones by a byte is cheaper than measuring each level beforehand.
    out[start..].rotate_right(length_bytes);
}
