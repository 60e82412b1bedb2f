package org.classkinfy.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class SelfTestTest {
    @Test
    fun `an honest engine passes in every form and precision`() {
        for (form in Form.values()) {
            for (precision in listOf("fp32", "static_wi8_ai8")) {
                val report = Tiny.pipeline(options = Options(precision = precision, form = form)).selfTest()
                assertTrue(report.failures.toString(), report.passed)
                assertEquals(4, report.cases)
                assertEquals(0, report.flips)
                assertEquals("onnx $precision ${form.label}", report.label)
                assertEquals(0.0, report.checks.maxOf { it.largest }, 0.0)
            }
        }
    }

    @Test
    fun `the staged form compares every tensor, the graders' that were not routed to included`() {
        val tensors = Tiny.pipeline().selfTest().worst().keys
        val expected = setOf(
            "accepted", "clean", "confidence", "diagnosis", "embedding", "features", "lesion_mask", "preliminary",
            "probabilities", "quality", "reasons", "severity", "severity_mel", "severity_nv",
        )
        assertEquals(expected, tensors)
    }

    @Test
    fun `an engine that lies about any tensor fails, and the tensor is named`() {
        val lies = listOf(
            "clean", "quality", "lesion_mask", "features", "preliminary", "embedding", "probabilities", "severity",
        )
        for (name in lies) {
            val report = Tiny.pipeline(lying(name, 0.002f)).selfTest()
            assertFalse("a lie about $name went through", report.passed)
            assertTrue(report.failures.toString(), report.failures.any { name in it })
        }
    }

    @Test
    fun `differences within the manifest's tolerance pass, and just beyond do not`() {
        // Of probabilities 1e-5 is allowed, of features 1e-3.
        val asked = mapOf("probabilities" to 1e-5f, "preliminary" to 1e-5f, "features" to 1e-3f, "embedding" to 1e-3f)
        for ((name, tolerance) in asked) {
            val within = Tiny.pipeline(lying(name, tolerance * .9f)).selfTest()
            assertTrue("$name: ${within.failures}", within.passed)
            assertTrue(within.worst().getValue(name).largest > tolerance * .8)
            assertFalse(name, Tiny.pipeline(lying(name, tolerance * 1.1f)).selfTest().passed)
        }
    }

    @Test
    fun `exact tensors have no tolerance`() {
        for (form in Form.values()) {
            for (precision in listOf("fp32", "static_wi8_ai8")) {
                val options = Options(precision = precision, form = form)
                val report = Tiny.pipeline(lying("quality", 1e-6f), options).selfTest()
                assertFalse(report.passed)
                assertEquals(0.0, report.worst().getValue("quality").tolerance!!, 0.0)
            }
        }
    }

    @Test
    fun `int8 may move probabilities a little, and not the decision`() {
        val options = Options(precision = "static_wi8_ai8")
        val little = Tiny.pipeline(lying("probabilities", .03f), options).selfTest()
        assertTrue(little.failures.toString(), little.passed)
        assertEquals(null, little.worst().getValue("probabilities").tolerance)
        // In the mean of the images .06 is allowed.
        assertFalse(Tiny.pipeline(lying("probabilities", .07f), options).selfTest().passed)
        val flipping = Tiny.pipeline(lying("probabilities", .2f), options).selfTest()
        assertEquals(4, flipping.flips)
        // Another diagnosis has another grade, or none: that is told once, as what it is.
        assertEquals(2, flipping.failures.size)
        assertTrue(flipping.failures.toString(), "4 of 4 cases are decided otherwise" in flipping.failures.first())
    }

    @Test
    fun `an engine that gives NaN or fails has not passed, and the other cases are run`() {
        for (fault in listOf<Fault>(
            { _, outputs -> outputs["probabilities"]?.let { outputs["probabilities"] = of(it, Float.NaN) } },
            { stage, _ -> if (stage == "classify") throw badEngine("the delegate is gone") },
        )) {
            val report = Tiny.pipeline(TinyProvider(fault = fault)).selfTest()
            assertEquals(4, report.failures.size)
            assertFalse(report.passed)
        }
    }

    @Test
    fun `the report as JSON names worst differences and failures`() {
        val json = Tiny.pipeline(lying("clean", 1f)).selfTest().toJson()
        assertFalse(json.getBoolean("passed"))
        assertEquals("infinite", json.getJSONObject("tensors").getJSONObject("clean").getString("largest"))
        assertEquals(4, json.getInt("cases"))
        assertTrue(json.getJSONArray("failures").length() > 0)
    }

    @Test
    fun `tolerances are named for ARM apart`() {
        val parity = Tiny.bundle().manifest.parity
        assertEquals(1e-5, parity.tolerance("onnxruntime", "probabilities"), 0.0)
        // Python's own numbers: kernels under emulation add up in another order.
        assertEquals(1e-4, parity.tolerance("arm64-onnxruntime", "severity_mel"), 1e-12)
        assertEquals(0.0, parity.tolerance("arm64-onnxruntime", "clean"), 0.0)
        assertEquals("arm64-litert", Parity.name("litert", "aarch64"))
        assertEquals("litert", Parity.name("litert", "amd64"))
        assertEquals(.15, parity.drift("static_wi8_ai8"), 0.0)
        assertEquals(.002, parity.drift("fp16"), 0.0)
        assertEquals(.01, parity.drift("weight_only_wi8_afp32"), 0.0)
        assertEquals(.02, parity.meanShift("weight_only_wi8_afp32"), 0.0)
    }

    @Test
    fun `a bundle without golden vectors, or with damaged ones, says so`() {
        val manifest = Tiny.bundle().manifest
        assertTrue("golden/golden.json" in manifest.files)
        val cases = Golden.cases(Tiny.bundle())
        assertEquals(listOf("graded", "other_grader", "not_graded", "refused"), cases.map { it.name })
        assertEquals(listOf("mel", "nv"), cases.first().graded.sorted())
        assertThrows(BundleException::class.java) { Golden.cases(Bundle.open(Vectors.file("bundles/no_golden"))) }
        for (name in listOf("golden_other_image", "golden_short_image", "golden_long_image", "golden_no_gzip")) {
            val bundle = Bundle.open(Vectors.file("bundles/$name"))
            assertThrows(name, BundleException::class.java) { Golden.cases(bundle).forEach { it.image() } }
        }
    }

    /** Adds to the last element of a tensor. */
    private fun lying(name: String, by: Float) = TinyProvider { _, outputs ->
        outputs[name]?.let { tensor ->
            outputs[name] = if (tensor.dtype == Dtype.UINT8) {
                Tensor.of(tensor.bytes().also { it[it.size - 1]++ }, *tensor.shape)
            } else {
                of(tensor, tensor.floats().last() + by)
            }
        }
    }

    private fun of(tensor: Tensor, last: Float): Tensor =
        Tensor.of(tensor.floats().also { it[it.size - 1] = last }, *tensor.shape)
}
