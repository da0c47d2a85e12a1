//! Owns the way from any `Serialize` to the data model of values. It is stated here
//! once, and built as a tree (`value::tree`) or as bytes (`codec::ser`) by a sink,
//! so that the two cannot come to differ.
//!
//! - `()` , `None` and unit structs are null; `Some(x)` and newtypes are `x`.
//! - Enums are tagged from outside: `"Unit"`, `{"Newtype": x}`, `{"Tuple": [..]}`.
//! - Structs and maps are maps; keys are text (see `value::key`).
//! - Sequences and tuples are lists; one that is not empty and whose elements all
//!   came as `u8` is bytes.
//! - `i128` and `u128` must fit 64 bits.

use serde::ser::{self, Serialize};

use super::fault::Fault;
use super::key::KeyModel;

/// What takes one value. The layer that builds something declares how.
pub(crate) trait Sink: Sized {
    /// What a value that was taken leaves behind.
    type Ok;
    /// What takes the elements of a list.
    type List: ListSink<Ok = Self::Ok>;
    /// What takes the entries of a map.
    type Map: MapSink<Ok = Self::Ok>;

    fn null(self) -> Result<Self::Ok, Fault>;
    fn bool(self, value: bool) -> Result<Self::Ok, Fault>;
    /// An integer that came as `u8`: a list of only these is bytes.
    fn byte(self, value: u8) -> Result<Self::Ok, Fault>;
    fn int(self, value: i64) -> Result<Self::Ok, Fault>;
    /// Only called above `i64::MAX`.
    fn big_uint(self, value: u64) -> Result<Self::Ok, Fault>;
    fn float(self, value: f64) -> Result<Self::Ok, Fault>;
    fn str(self, value: &str) -> Result<Self::Ok, Fault>;
    fn bytes(self, value: &[u8]) -> Result<Self::Ok, Fault>;
    /// Opens a list. `len` is what is known of its length, and may be wrong.
    fn list(self, len: Option<usize>) -> Result<Self::List, Fault>;
    /// Opens a map. `len` is what is known of its length, and may be wrong.
    fn map(self, len: Option<usize>) -> Result<Self::Map, Fault>;
    /// Opens a map of one entry; what is returned takes the value of it.
    fn variant(self, name: &'static str) -> Result<Self, Fault>;
    /// Closes what `variant` opened.
    fn close_variant(name: &'static str, inner: Self::Ok) -> Self::Ok;
}

/// Takes elements. One that failed is left out as if it had never been offered.
pub(crate) trait ListSink {
    type Ok;
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault>;
    fn end(self) -> Result<Self::Ok, Fault>;
}

/// Takes a key and a value in turn. An entry that failed is left out.
pub(crate) trait MapSink {
    type Ok;
    fn key(&mut self, key: &str) -> Result<(), Fault>;
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault>;
    fn end(self) -> Result<Self::Ok, Fault>;
}

/// The serde serializer over a sink.
pub(crate) struct Model<S>(pub(crate) S);

impl<S: Sink> Model<S> {
    fn list_model(
        sink: S,
        len: Option<usize>,
        variant: Option<&'static str>,
    ) -> Result<ListModel<S>, Fault> {
        let list = sink.list(len).map_err(|fault| in_variant(fault, variant))?;
        Ok(ListModel { list, variant })
    }

    fn map_model(
        sink: S,
        len: Option<usize>,
        variant: Option<&'static str>,
    ) -> Result<MapModel<S>, Fault> {
        let map = sink.map(len).map_err(|fault| in_variant(fault, variant))?;
        Ok(MapModel { map, variant })
    }
}

fn in_variant(fault: Fault, variant: Option<&'static str>) -> Fault {
    match variant {
        Some(name) => fault.at_key(name),
        None => fault,
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, Fault> {
            self.0.int(i64::from(value))
        }
    )*};
}

impl<S: Sink> ser::Serializer for Model<S> {
    type Ok = S::Ok;
    type Error = Fault;
    type SerializeSeq = ListModel<S>;
    type SerializeTuple = ListModel<S>;
    type SerializeTupleStruct = ListModel<S>;
    type SerializeTupleVariant = ListModel<S>;
    type SerializeMap = MapModel<S>;
    type SerializeStruct = MapModel<S>;
    type SerializeStructVariant = MapModel<S>;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u16: u16, serialize_u32: u32
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<S::Ok, Fault> {
        self.0.byte(value)
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<S::Ok, Fault> {
        match i64::try_from(value) {
            Ok(value) => self.0.int(value),
            Err(_) => self.0.big_uint(value),
        }
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, Fault> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.0.int(value),
            (_, Ok(value)) => self.0.big_uint(value),
            _ => Err(out_of_range()),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, Fault> {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => Err(out_of_range()),
        }
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<S::Ok, Fault> {
        self.0.bool(value)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, Fault> {
        self.0.float(f64::from(value))
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, Fault> {
        self.0.float(value)
    }

    fn serialize_char(self, value: char) -> Result<S::Ok, Fault> {
        self.0.str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, Fault> {
        self.0.str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, Fault> {
        self.0.bytes(value)
    }

    fn serialize_none(self) -> Result<S::Ok, Fault> {
        self.0.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<S::Ok, Fault> {
        self.0.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<S::Ok, Fault> {
        self.0.null()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<S::Ok, Fault> {
        self.0.str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, Fault> {
        let inner = value
            .serialize(Model(self.0.variant(variant)?))
            .map_err(|fault| fault.at_key(variant))?;
        Ok(S::close_variant(variant, inner))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<ListModel<S>, Fault> {
        Self::list_model(self.0, len, None)
    }

    fn serialize_tuple(self, len: usize) -> Result<ListModel<S>, Fault> {
        Self::list_model(self.0, Some(len), None)
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<ListModel<S>, Fault> {
        Self::list_model(self.0, Some(len), None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<ListModel<S>, Fault> {
        Self::list_model(self.0.variant(variant)?, Some(len), Some(variant))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<MapModel<S>, Fault> {
        Self::map_model(self.0, len, None)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, len: usize) -> Result<MapModel<S>, Fault> {
        Self::map_model(self.0, Some(len), None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<MapModel<S>, Fault> {
        Self::map_model(self.0.variant(variant)?, Some(len), Some(variant))
    }
}

fn out_of_range() -> Fault {
    Fault::mismatch("an integer does not fit 64 bits")
}

/// A list that is being written, perhaps as the content of an enum's variant.
pub(crate) struct ListModel<S: Sink> {
    list: S::List,
    variant: Option<&'static str>,
}

impl<S: Sink> ListModel<S> {
    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.list
            .element(value)
            .map_err(|fault| in_variant(fault, self.variant))
    }

    #[inline]
    fn finish(self) -> Result<S::Ok, Fault> {
        let inner = self
            .list
            .end()
            .map_err(|fault| in_variant(fault, self.variant))?;
        Ok(match self.variant {
            Some(name) => S::close_variant(name, inner),
            None => inner,
        })
    }
}

/// A map that is being written, perhaps as the content of an enum's variant.
pub(crate) struct MapModel<S: Sink> {
    map: S::Map,
    variant: Option<&'static str>,
}

impl<S: Sink> MapModel<S> {
    #[inline]
    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Fault> {
        let pushed = self.map.key(key).and_then(|()| self.map.value(value));
        pushed.map_err(|fault| in_variant(fault, self.variant))
    }

    #[inline]
    fn finish(self) -> Result<S::Ok, Fault> {
        let inner = self
            .map
            .end()
            .map_err(|fault| in_variant(fault, self.variant))?;
        Ok(match self.variant {
            Some(name) => S::close_variant(name, inner),
            None => inner,
        })
    }
}

macro_rules! lists {
    ($($trait:ident $method:ident),*) => {$(
        impl<S: Sink> ser::$trait for ListModel<S> {
            type Ok = S::Ok;
            type Error = Fault;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.push(value)
            }

            #[inline]
            fn end(self) -> Result<S::Ok, Fault> {
                self.finish()
            }
        }
    )*};
}

lists! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
}

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl<S: Sink> ser::$trait for MapModel<S> {
            type Ok = S::Ok;
            type Error = Fault;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.entry(key, value)
            }

            #[inline]
            fn end(self) -> Result<S::Ok, Fault> {
                self.finish()
            }
        }
    )*};
}

structs! { SerializeStruct, SerializeStructVariant }

impl<S: Sink> ser::SerializeMap for MapModel<S> {
    type Ok = S::Ok;
    type Error = Fault;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        key.serialize(KeyModel(&mut self.map))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.map.value(value)
    }

    #[inline]
    fn end(self) -> Result<S::Ok, Fault> {
        self.finish()
    }
}
