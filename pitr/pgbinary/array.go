package pgbinary

// AppendArray begins an array of one dimension (src/backend/utils/adt/arrayfuncs.c, array_recv). So many elements follow, each behind its
// size, of the type with that OID: of the server that reads it.
func AppendArray(dst []byte, elements int, oid uint32) []byte {
	const dimensions, mayHaveNulls, lower = 1, 1, 1
	for _, v := range [...]uint32{dimensions, mayHaveNulls, oid, uint32(elements), lower} {
		dst = order.AppendUint32(dst, v)
	}
	return dst
}
