package org.classkinfy.core

import java.io.ByteArrayInputStream
import java.io.IOException
import java.util.zip.GZIPInputStream

/** A tensor that PyTorch gave: its numbers, or of a large one its hash. */
internal class Expected(
    val dtype: Dtype,
    val shape: IntArray,
    val values: DoubleArray?,
    val sha256: String?,
)

/** One image with what PyTorch made of it. */
internal class GoldenCase(
    private val bundle: Bundle,
    val name: String,
    private val path: String,
    private val shape: IntArray,
    private val sha256: String,
    val expected: Map<String, Expected>,
) {
    /** The diagnoses whose graders were asked. */
    val graded: List<String>
        get() = expected.keys.filter { it.startsWith(GRADED) }.map { it.removePrefix(GRADED) }

    /** The image as the stages take it; unpacked when it is needed, for a phone has little memory. */
    fun image(): Tensor {
        val tensor = Tensor.allocate(Dtype.UINT8, *shape)
        val bytes = ByteArray(tensor.size)
        try {
            GZIPInputStream(ByteArrayInputStream(bundle.read(path))).use { stream ->
                var at = 0
                while (at < bytes.size) {
                    val count = stream.read(bytes, at, bytes.size - at)
                    if (count < 0) throw badBundle("golden image $name ends after $at bytes")
                    at += count
                }
                if (stream.read() >= 0) throw badBundle("golden image $name has more than ${bytes.size} bytes")
            }
        } catch (error: IOException) {
            throw badBundle("golden image $name is damaged: ${error.message}", cause = error)
        }
        if (sha256(bytes) != sha256) {
            throw badBundle("golden image $name is not the one that was recorded")
        }
        tensor.data.put(bytes)
        return tensor
    }

    companion object {
        const val GRADED = "severity_"
    }
}

/** The golden vectors of a bundle: `golden/golden.json` and its images. */
internal object Golden {
    private const val FOLDER = "golden"
    private const val INDEX = "$FOLDER/golden.json"
    private val NEEDED = listOf("quality", "accepted", "reasons", "probabilities", "diagnosis")
    private const val MAX_LENGTH = 1 shl 24

    /** @throws BundleException there are none, or they are damaged */
    fun cases(bundle: Bundle): List<GoldenCase> {
        if (INDEX !in bundle.manifest.files) {
            throw badBundle("the bundle holds no golden vectors", "export it with golden: true")
        }
        val json = Json.parse(bundle.read(INDEX), INDEX)
        val cases = json.member("cases").items().map { case(bundle, it) }
        if (cases.isEmpty()) json.refuse("has no case")
        return cases
    }

    private fun case(bundle: Bundle, json: Json): GoldenCase {
        val shape = shape(json)
        if (!shape.contentEquals(bundle.manifest.capture.shape)) json.refuse("is not of the capture's shape")
        val tensors = json.member("tensors")
        val expected = tensors.members().mapValues { expected(it.value) }
        for (name in NEEDED) if (name !in expected) tensors.refuse("lacks $name")
        return GoldenCase(
            bundle,
            json.member("name").text(),
            "$FOLDER/${json.member("image").text()}",
            shape,
            json.member("sha256").text(),
            expected,
        )
    }

    private fun expected(json: Json): Expected {
        val dtype = json.member("dtype").word(Dtype.values().associateBy { it.label })
        val shape = shape(json)
        val sha256 = json.optional("sha256")?.text()
        if (sha256 != null) return Expected(dtype, shape, null, sha256)
        val values = json.member("values").items().map { if (it.isNull) Double.NaN else it.number() }
        val size = shape.fold(1L) { all, length -> all * length }
        if (values.size.toLong() != size) json.refuse("has ${values.size} values, and its shape $size")
        return Expected(dtype, shape, values.toDoubleArray(), null)
    }

    private fun shape(json: Json): IntArray =
        json.member("shape").items().map { it.int(1..MAX_LENGTH) }.toIntArray()
}
