plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "org.classkinfy.demo"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "org.classkinfy.demo"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = "1.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    androidResources {
        // The bundle is read as a stream, once, and its models hardly shrink.
        noCompress += listOf("ckb", "onnx", "tflite")
    }

    packaging {
        // Mapped into memory where they lie; AGP aligns them to 16 KB.
        jniLibs.useLegacyPackaging = false
    }

    testOptions.unitTests.all { test ->
        val extras = "bundle photo manifest_sha256 runtime form precision threads n warmup request"
        test.systemProperty("classkinfy.bundle", providers.gradleProperty("classkinfy.bundle").getOrElse(""))
        test.systemProperty("classkinfy.extras", extras)
    }
}

dependencies {
    implementation(project(":android"))
    implementation(project(":engine-ort"))
    implementation(project(":engine-litert"))
    implementation(libs.onnxruntime.android)
    testImplementation(libs.json)
    testImplementation(libs.junit)
}

// The app is nothing without a bundle; say so rather than fail on a class that is not there.
val embedded = layout.projectDirectory.file("src/main/assets/classkinfy.ckb")
tasks.named("preBuild") {
    val asset = embedded.asFile
    doFirst {
        if (!asset.isFile) {
            throw GradleException("there is no bundle; run: classkinfy embed BUNDLE --android android_demo/app")
        }
    }
}
