//! The label of an edge of the trie: usually one level of a filter, short enough to be stored
//! inline.
//!
//! 24 bytes, 22 of them for text. A boxed string would take 16 and at least 32 on the heap, and
//! comparing it would follow a pointer.

const SHORT_BYTES_MAX: usize = 22;

#[derive(Debug)]
pub enum Label {
    Short {
        len: u8,
        bytes: [u8; SHORT_BYTES_MAX],
    },
    Long(Box<str>),
}

const _: () = assert!(size_of::<Label>() == 24);

impl Label {
    pub fn new(text: &str) -> Label {
        if text.len() > SHORT_BYTES_MAX {
            return Label::Long(text.into());
        }
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Label::Short {
            len: text.len() as u8,
            bytes,
        }
    }

    /// Bytes on the heap, as the allocator rounds them.
    pub const fn heap_bytes(&self) -> usize {
        match self {
            Label::Short { .. } => 0,
            Label::Long(text) => text.len().next_multiple_of(16),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Label::Short { len, bytes } => &bytes[..usize::from(*len)],
            Label::Long(text) => text.as_bytes(),
        }
    }

    pub fn as_str(&self) -> &str {
        // The bytes come from a `str`, so the default is never used.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_of_any_length_reads_as_it_was_written() {
        for len in [0, 1, 21, 22, 23, 255] {
            let text = "x".repeat(len);
            assert_eq!(Label::new(&text).as_str(), text);
        }
        let umlauts = "ü".repeat(11);
        assert!(matches!(Label::new(&umlauts), Label::Short { len: 22, .. }));
        assert_eq!(Label::new(&umlauts).as_str(), umlauts);
    }
}
