package org.classkinfy.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class SessionTest {
    @Test
    fun `decisions are those of Python, limits and ties included`() {
        for (entry in Vectors.entries("decisions")) {
            val quality = entry.getJSONArray("quality").floats()
            val probabilities = entry.getJSONArray("probabilities").floats()
            val tensors = Tiny.session(gives(quality, probabilities)).run(Tiny.tensor(Tiny.GRADED))
            val what = entry.toString()
            assertEquals(what, entry.getBoolean("accepted"), tensors.int("accepted") == 1)
            assertEquals(what, entry.getInt("reasons"), tensors.int("reasons"))
            assertEquals(what, entry.getInt("diagnosis"), tensors.int("diagnosis"))
            val confidence = tensors.getValue("confidence").floats().single()
            assertEquals(what, entry.getDouble("confidence").toFloat(), confidence, 0f)
        }
    }

    @Test
    fun `only the routed grader runs, and is opened`() {
        for ((pixel, grader) in listOf(Tiny.GRADED to "grade_mel", Tiny.NOT_GRADED to null, Tiny.REFUSED to null)) {
            val provider = TinyProvider()
            val tensors = Tiny.session(provider).run(Tiny.tensor(pixel))
            assertEquals(listOf("prepare", "screen", "classify") + listOfNotNull(grader), provider.ran)
            assertEquals(provider.ran.map { "models/${it}_fp32.onnx" }, provider.opened.keys.toList())
            assertEquals(grader == null, tensors.getValue("severity").floats().all { it.isNaN() })
        }
    }

    @Test
    fun `graders that are asked beside the routed one run once`() {
        val provider = TinyProvider()
        val tensors = Tiny.session(provider).run(Tiny.tensor(Tiny.GRADED), listOf("nv", "mel", "df", "nv"))
        assertEquals(listOf("grade_mel", "grade_nv"), provider.ran.filter { it.startsWith("grade") })
        assertArrayEquals(tensors.getValue("severity_mel").floats(), tensors.getValue("severity").floats(), 0f)
        assertTrue("severity_nv" in tensors)
    }

    @Test
    fun `an engine is given the very bytes that were hashed, once a file`() {
        val provider = TinyProvider()
        val session = Tiny.session(provider)
        repeat(2) { session.run(Tiny.tensor(Tiny.GRADED)) }
        for ((path, content) in provider.opened) {
            assertEquals(session.bundle.manifest.files.getValue(path).sha256, sha256(content.toByteArray()))
        }
        assertEquals(4, provider.opened.size)
        session.close()
        assertEquals(4, provider.closed)
        assertThrows(EngineException::class.java) { session.run(Tiny.tensor(Tiny.GRADED)) }
    }

    @Test
    fun `one file may hold all stages`() {
        val provider = TinyProvider("litert")
        Tiny.session(provider).run(Tiny.tensor(Tiny.GRADED))
        assertEquals(mapOf("models/all.tflite" to "litert fp32 all"), provider.opened.toMap())
    }

    @Test
    fun `the fused form gives what the staged form gives`() {
        for (pixel in listOf(Tiny.GRADED, Tiny.NOT_GRADED, Tiny.REFUSED)) {
            val provider = TinyProvider()
            val fused = Tiny.session(provider, Options(precision = "fp32", form = Form.FUSED)).run(Tiny.tensor(pixel))
            val staged = Tiny.session().run(Tiny.tensor(pixel))
            for ((name, tensor) in fused) assertArrayEquals(name, staged.getValue(name).bytes(), tensor.bytes())
            assertEquals(listOf("pipeline"), provider.ran)
            assertFalse("image" in fused)
        }
    }

    @Test
    fun `NaN and infinity are errors and never answers`() {
        for (form in Form.values()) {
            for (value in listOf(Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY)) {
                for (tensor in listOf("quality", "preliminary", "probabilities")) {
                    val provider = TinyProvider { _, outputs -> spoil(outputs, tensor, value) }
                    val session = Tiny.session(provider, Options(precision = "fp32", form = form))
                    val error = assertThrows(EngineException::class.java) { session.run(Tiny.tensor(Tiny.GRADED)) }
                    assertTrue(error.message!!, tensor in error.message!! && "NaN or infinity" in error.message!!)
                }
            }
        }
    }

    @Test
    fun `a grader's NaN is an error, for only what is not graded has none`() {
        for (form in Form.values()) {
            val provider = TinyProvider { _, outputs -> spoil(outputs, "severity", Float.NaN) }
            val session = Tiny.session(provider, Options(precision = "fp32", form = form))
            assertThrows(EngineException::class.java) { session.run(Tiny.tensor(Tiny.GRADED)) }
            session.run(Tiny.tensor(Tiny.NOT_GRADED))
        }
    }

    @Test
    fun `a diagnosis that the fused graph cannot mean is an error`() {
        for ((pixel, index) in listOf(Tiny.GRADED to 7, Tiny.GRADED to -1, Tiny.REFUSED to 4, Tiny.GRADED to -2)) {
            val provider = TinyProvider { _, outputs -> outputs["diagnosis"] = Tensor.of(intArrayOf(index), 1) }
            val session = Tiny.session(provider, Options(precision = "fp32", form = Form.FUSED))
            assertThrows(EngineException::class.java) { session.run(Tiny.tensor(pixel)) }
        }
    }

    @Test
    fun `tensors of another shape or dtype, or that are missing, are errors`() {
        val faults = listOf<Fault>(
            { stage, outputs -> if (stage == "classify") outputs.remove("probabilities") },
            { _, outputs -> replace(outputs, "quality") { Tensor.of(FloatArray(5), 1, 5) } },
            { _, outputs -> replace(outputs, "quality") { Tensor.of(IntArray(4), 1, 4) } },
            { _, outputs -> replace(outputs, "clean") { Tensor.of(it.bytes(), 1, Tiny.WIDTH, Tiny.HEIGHT, 3) } },
        )
        for (fault in faults) {
            val session = Tiny.session(TinyProvider(fault = fault))
            val error = assertThrows(EngineException::class.java) { session.run(Tiny.tensor(Tiny.GRADED)) }
            assertTrue(error.message!!, "stage " in error.message!!)
        }
    }

    @Test
    fun `an image of another shape is an error`() {
        val turned = Tensor.of(Tiny.image(Tiny.GRADED).rgb, 1, Tiny.WIDTH, Tiny.HEIGHT, 3)
        assertThrows(EngineException::class.java) { Tiny.session().run(turned) }
    }

    @Test
    fun `int8 is taken where the bundle holds it, and what it does not hold is told`() {
        val bundle = Tiny.bundle()
        assertEquals("static_wi8_ai8", Session(bundle, TinyProvider(), Options()).precision)
        assertEquals("fp32", Session(bundle, TinyProvider("litert"), Options()).precision)
        assertEquals("onnx fp32 staged", Tiny.session().label)
        for ((provider, precision) in listOf(TinyProvider("litert") to "fp16", TinyProvider("pytorch") to null)) {
            val options = Options(precision = precision)
            val error = assertThrows(EngineException::class.java) { Session(bundle, provider, options) }
            assertTrue(error.message!!, provider.format in error.message!!)
        }
    }

    private fun gives(quality: FloatArray, probabilities: FloatArray) = TinyProvider { _, outputs ->
        replace(outputs, "quality") { Tensor.of(quality, 1, quality.size) }
        replace(outputs, "probabilities") { Tensor.of(probabilities, 1, probabilities.size) }
    }

    private fun spoil(outputs: MutableMap<String, Tensor>, name: String, value: Float) = replace(outputs, name) {
        Tensor.of(it.floats().also { all -> all[all.size - 1] = value }, *it.shape)
    }

    private fun replace(outputs: MutableMap<String, Tensor>, name: String, by: (Tensor) -> Tensor) {
        outputs[name]?.let { outputs[name] = by(it) }
    }

    private fun Map<String, Tensor>.int(name: String): Int = getValue(name).ints().single()
}
